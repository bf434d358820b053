"""Signing in to the console at an OpenID Connect provider that others wrote, on Authlib's server.

It comes with a package that is installed once, into an environment of its own.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from muster_hub.settings.config import Http, Oidc
from support.console_kit import browser
from support.counterparts import environment
from support.hub_kit import Kit, open_kit
from support.monitoring import until
from support.ports import free_port

PACKAGE = "oidc-provider-mock==0.3.4"
PEOPLE = {
    "ada": {"email": "ada@example.com", "email_verified": True, "groups": ["plant"]},
    "eve": {"email": "eve@example.com", "email_verified": False, "groups": ["plant"]},
}

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def program() -> Path:
    return environment("oidc", PACKAGE) / "oidc-provider-mock"


@pytest.fixture
def provider(program: Path) -> Iterator[str]:
    port = free_port()
    claims = [json.dumps({"sub": name} | said) for name, said in PEOPLE.items()]
    running = subprocess.Popen(
        [program, "--port", str(port), "--require-nonce", "true",
         *(word for text in claims for word in ("--user-claims", text))],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://localhost:{port}"
    try:
        until(lambda: httpx.get(f"{url}/.well-known/openid-configuration").is_success)
        yield url
    finally:
        running.terminate()
        running.wait(60)


@pytest.fixture
def kit(tmp_path: Path, provider: str) -> Iterator[Kit]:
    settings = {
        "oidc": Oidc(
            issuer=provider, groups={"plant": "operator"}, client_secret_file="oidc.secret"
        ),
        "http": Http(url="http://hub.test"),
    }
    made = open_kit(tmp_path, settings=settings)
    (made.hub.config.data / "oidc.secret").write_text("between hub and provider")
    made.clock.now = time.time()
    yield made
    made.close()


def sign_in(kit: Kit, name: str) -> tuple[httpx.Client, httpx.Response]:
    """As a browser does it, with its person at the provider's own form."""
    client = browser(kit)
    form = client.get("/sign-in-oidc").headers["location"]
    agreed = httpx.post(form, data={"sub": name}, timeout=60)
    back = urlsplit(agreed.headers["location"])
    assert back.netloc == "hub.test"
    return client, client.get(f"{back.path}?{back.query}")


def test_somebody_signs_in_with_what_the_provider_says_of_them(kit: Kit) -> None:
    client, answer = sign_in(kit, "ada")
    assert answer.status_code == 200, answer.text
    page = client.get("/").text
    assert "<bdi>ada@example.com</bdi>" in page
    assert "operator" in page


def test_an_address_that_the_provider_has_not_verified_lets_nobody_in(kit: Kit) -> None:
    client, answer = sign_in(kit, "eve")
    assert answer.status_code == 401
    assert "has not verified this e-mail address" in answer.text
    assert client.get("/").status_code == 303
