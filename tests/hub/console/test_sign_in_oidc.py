"""Signing in at an issuer: code flow with PKCE at a local one that holds the hub to all of it."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlmodel import select

from muster_hub.api.app import PREFIX
from muster_hub.console.session import SESSION_SECONDS
from muster_hub.settings.config import Oidc
from muster_hub.storage.governance import Person
from muster_hub.storage.models import Audit
from support.console_kit import browser
from support.hub_kit import PATIENT, Kit, open_kit

SECRET = "s:e c/ret"


class Provider:
    """An issuer with one person, who says yes at once; ``spoil`` changes what its tokens say."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.claims = {"email": "ada@example.com", "email_verified": True, "groups": ["plant"]}
        self.spoil: dict = {}
        self.now = 0.0
        self.codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", provider.agree(dict(parse_qsl(parts.query))))
                    self.end_headers()
                    return
                self.answer(200, provider.document(parts.path))

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                form = dict(parse_qsl(self.rfile.read(size).decode()))
                self.answer(*provider.give(form, self.headers.get("Authorization", "")))

            def answer(self, status: int, body: dict) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def document(self, path: str) -> dict:
        if path == "/keys":
            made = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return {"keys": [made | {"kid": "k", "use": "sig"}]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token"}  # fmt: skip

    def agree(self, asked: dict[str, str]) -> str:
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        return asked["redirect_uri"] + "?" + urlencode(
            {"code": code, "state": asked["state"], "iss": self.url}
        )  # fmt: skip

    def give(self, form: dict[str, str], authorization: str) -> tuple[int, dict]:
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        proof = base64.b64encode(b"muster:s%3Ae%20c/ret").decode()
        if authorization != f"Basic {proof}":
            return 401, {"error": "invalid_client"}
        claims = {
            "iss": self.url, "aud": asked["client_id"], "sub": "1", "nonce": asked["nonce"],
            "exp": self.now + 60, **self.claims, **self.spoil,
        }  # fmt: skip
        token = jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "k"})
        return 200, {"id_token": token, "access_token": "x", "token_type": "Bearer"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def kit(tmp_path, provider: Provider) -> Iterator[Kit]:
    oidc = Oidc(issuer=provider.url, groups={"plant": "operator"}, audience="the-api",
                client_secret_file="oidc.secret")  # fmt: skip
    made = open_kit(
        tmp_path,
        settings={"oidc": oidc, "http": msgspec.structs.replace(PATIENT, url="http://hub.test")},
    )
    (made.hub.config.data / "oidc.secret").write_text(SECRET + "\n")
    provider.now = made.clock()
    yield made
    made.close()


def back(client: httpx.Client, to: str = "") -> str:
    """The path at which a browser comes back from the issuer."""
    began = client.get("/sign-in-oidc", params={"to": to})
    assert began.status_code == 303
    agreed = httpx.get(began.headers["location"], timeout=60)
    returned = urlsplit(agreed.headers["location"])
    return f"{returned.path}?{returned.query}"


def sign_in(kit: Kit, to: str = "") -> tuple[httpx.Client, httpx.Response]:
    client = browser(kit)
    return client, client.get(back(client, to))


def test_somebody_signs_in_at_the_issuer_and_comes_to_the_page_they_wanted(kit: Kit) -> None:
    client = browser(kit)
    assert "Sign in with your organisation" in client.get("/sign-in").text
    answer = client.get(back(client, "inbox"))
    assert answer.status_code == 200
    assert 'content="0; url=./inbox"' in answer.text
    page = client.get("/").text
    assert "<bdi>ada@example.com</bdi>" in page
    assert "operator" in page
    with kit.hub.store.read() as session:
        rows = session.exec(select(Audit).where(Audit.action == "sign-in.oidc")).all()
    assert [row.actor for row in rows] == ["person:ada@example.com"]


def test_a_session_outlives_the_issuer_s_token_and_not_its_own_time(kit: Kit) -> None:
    client, _ = sign_in(kit)
    kit.clock.now += 3600
    assert client.get("/").status_code == 200
    kit.clock.now += SESSION_SECONDS
    assert client.get("/").status_code == 303


def test_who_loses_their_role_loses_it_at_the_next_request(kit: Kit, provider: Provider) -> None:
    provider.claims["groups"] = []
    with kit.hub.store.write() as session:
        session.add(Person(name="ada@example.com", role="admin", created=1.0, created_by="x"))
    client, _ = sign_in(kit)
    assert client.get("/audit").status_code == 200
    with kit.hub.store.write() as session:
        session.delete(session.get_one(Person, "ada@example.com"))
    assert client.get("/audit").status_code == 403


def test_who_has_no_role_begins_no_session(kit: Kit, provider: Provider) -> None:
    provider.claims["groups"] = ["visitors"]
    client, answer = sign_in(kit)
    assert answer.status_code == 401
    assert "has no role here" in answer.text
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "spoil",
    [
        {"nonce": "another"},
        {"aud": "the-api"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"email_verified": False},
        {"azp": "another"},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_sign_in_is_refused(
    kit: Kit, provider: Provider, spoil: dict
) -> None:
    provider.spoil = spoil
    client, answer = sign_in(kit)
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert client.get("/").status_code == 303


def test_a_return_that_another_browser_began_signs_nobody_in(kit: Kit) -> None:
    """Else somebody could be led into the attacker's session, and type their secrets there."""
    way = back(browser(kit))
    for other in (browser(kit), browser(kit)):
        answer = other.get(way)
        assert answer.status_code == 401
        assert "was not begun in this browser" in answer.text
        assert other.get("/").status_code == 303


def test_a_return_counts_once_and_within_ten_minutes(kit: Kit) -> None:
    client = browser(kit)
    way = back(client)
    assert client.get(way).status_code == 200
    assert client.get(way).status_code == 401
    late = browser(kit)
    way = back(late)
    kit.clock.now += 601
    assert late.get(way).status_code == 401


def test_a_changed_state_code_or_issuer_is_refused(kit: Kit) -> None:
    for name, value in (("state", "x"), ("code", "made-up"), ("iss", "https://evil.example")):
        client = browser(kit)
        path, _, query = back(client).partition("?")
        changed = {key: found[0] for key, found in parse_qs(query).items()} | {name: value}
        assert client.get(path, params=changed).status_code == 401
        assert client.get("/").status_code == 303


def test_an_issuer_that_says_no_is_quoted_as_text(kit: Kit) -> None:
    client = browser(kit)
    path, _, query = back(client).partition("?")
    state = parse_qs(query)["state"][0]
    answer = client.get(path, params={"error": "<b>access_denied</b>", "state": state})
    assert "&lt;b&gt;access_denied" in answer.text


def test_what_a_browser_holds_is_sealed_and_lets_nobody_into_the_api(kit: Kit) -> None:
    client, _ = sign_in(kit)
    assert "ada@example.com" not in str(dict(client.cookies))
    assert client.get(f"{PREFIX}/devices").status_code == 401
    for forged in ("msp_", "msp_AAAA", "msp_" + "A" * 5000):
        headers = {"Authorization": f"Bearer {forged}"}
        assert kit.http.get(f"{PREFIX}/whoami", headers=headers).status_code == 401


def test_the_cookie_of_a_login_comes_back_from_the_issuer_s_site_and_over_tls_alone(
    tmp_path, provider: Provider
) -> None:
    made = open_kit(tmp_path, settings={"oidc": Oidc(issuer=provider.url)})
    try:
        cookie = browser(made).get("/sign-in-oidc").headers["set-cookie"]
    finally:
        made.close()
    assert {"HttpOnly", "SameSite=lax", "Max-Age=600", "Secure"} <= set(cookie.split("; "))


def test_without_an_issuer_there_is_no_such_way(tmp_path) -> None:
    made = open_kit(tmp_path)
    try:
        assert "organisation" not in browser(made).get("/sign-in").text
        for path in ("/sign-in-oidc", "/sign-in-callback"):
            assert browser(made).get(path).status_code == 404
    finally:
        made.close()


def test_an_issuer_that_is_away_is_said_and_a_token_still_works(
    kit: Kit, provider: Provider
) -> None:
    provider.server.shutdown()
    provider.server.server_close()
    answer = browser(kit).get("/sign-in-oidc")
    assert answer.status_code == 503
    assert "can&#39;t be asked" in answer.text
