"""`muster token` and `muster audit` against a real hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import OperatorError
from muster_hub.storage.models import Audit
from support.hub_kit import API, Kit, open_kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def muster(kit: Kit, *arguments: str):
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def test_a_token_is_made_listed_and_revoked(kit):
    made = muster(kit, "token", "make", "ci", "--role", "releaser", "--model", "digits")
    assert made.exit_code == 0, made.output
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    who = kit.http.get(f"{API}/whoami", headers=headers).json()
    assert (who["name"], who["role"], who["models"]) == ("ci", "releaser", ["digits"])
    (line,) = [
        splitline
        for splitline in muster(kit, "token", "list").stdout.splitlines()
        if " ci " in splitline
    ]
    assert muster(kit, "token", "revoke", line.split()[0], "--yes").exit_code == 0
    assert kit.http.get(f"{API}/whoami", headers=headers).status_code == 401


def test_audit_verify_says_whether_the_log_is_whole(kit):
    muster(kit, "token", "make", "ci")
    assert "2 rows, unbroken" in muster(kit, "audit", "verify").stdout
    assert "api-token.make" in muster(kit, "audit", "list").stdout
    with kit.hub.store.write() as session:
        session.get_one(Audit, 1).subject = "https://elsewhere"
    broken = muster(kit, "audit", "verify")
    assert isinstance(broken.exception, OperatorError)
    assert "audit row 1" in str(broken.exception)
