"""`muster` for who operates a fleet: its status, assignments, people, and signing in."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from tuf.api.metadata import Metadata, TargetFile, Targets
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit, OperatorError, WrongUsage
from muster_client.profile import resolve
from muster_hub.admin.main import app as hub_app
from muster_hub.errors import CatalogueError
from muster_hub.signing import keys, requests
from muster_hub.storage.models import Alert, Audit, Device, Model, Rollout, Version
from muster_protocol.wire.chunks import sha256_hex
from support.command_tree import commands
from support.hub_kit import API, Kit, open_kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    yield made
    made.close()


def token_of(kit: Kit, role: str) -> str:
    return kit.as_(role)["Authorization"].removeprefix("Bearer ")


def muster(kit: Kit, *arguments: str, role: str = "admin", **more: Any) -> Any:
    flags = ["--hub", str(kit.http.base_url), "--token", token_of(kit, role)]
    return CliRunner().invoke(app, [*flags, *arguments], **more)


def shown(kit: Kit, *arguments: str, **more: Any) -> str:
    ended = muster(kit, *arguments, **more)
    assert ended.exit_code == 0, ended.output or ended.exception
    return " ".join(ended.stdout.split())


def muster_json(kit: Kit, *arguments: str, **more: Any) -> Any:
    ended = muster(kit, *arguments, "--json", **more)
    assert ended.exit_code == 0, ended.output or ended.exception
    return json.loads(ended.stdout)


def done(kit: Kit) -> list[str]:
    with kit.hub.store.read() as session:
        return [f"{row.action} {row.subject}" for row in session.exec(select(Audit))]


def running(version: str, **slot: Any) -> dict[str, Any]:
    held = {"model": "digits", "version": version, "manifest": version}
    return {"slots": {"main": {"health": "ok", "running": held, **slot}}}


def fill(kit: Kit) -> None:
    now = kit.clock()
    with kit.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        session.flush()
        for version in ("1", "2"):
            session.add(Version(model="digits", version=version, manifest_sha256=version,
                                manifest=b"{}", status="published", size_bytes=1, created=1,
                                created_by="test"))  # fmt: skip
        about = {"created": 1, "last_seen": now, "online": True}
        refused = {"update": {"state": "failed", "refusal": "golden_mismatch"}}
        waits = {"update": {"state": "staged", "waiting_for": "permit: line=2"}}
        for name, site, report in (
            ("cam-1", "berlin", running("1")), ("cam-2", "berlin", running("2")),
            ("cam-3", "oslo", running("1", **refused)), ("cam-4", "oslo", running("1", **waits)),
        ):  # fmt: skip
            session.add(Device(id=name, labels={"site": site}, report=report, **about))
        session.add(Device(id="cam-5", labels={"site": "oslo"}, created=1))
        session.add(Device(id="cam-6", labels={"site": "oslo"}, created=1, revoked=True))
        session.flush()
        for name, state in (("cam-2", "open"), ("cam-3", "resolved")):
            session.add(Alert(key=f"drift/{name}", kind="drift", severity="warning", state=state,
                              opened=1, updated=1, title="drift", device=name,
                              detail={"model": "digits"}))  # fmt: skip
        session.add(Rollout(model="digits", version="2", manifest="2", slot="main",
                            selector="site=berlin", state="running", plan={}, created=1,
                            created_by="test", updated=1, reason="wave 1 soaks"))  # fmt: skip


def test_the_status_shows_on_a_page_how_devices_stand_what_they_run_and_what_waits(kit):
    assert "No device has enrolled." in shown(kit, "status")
    fill(kit)
    found = muster_json(kit, "status")
    counts = {"devices": 5, "online": 4, "failing": 1, "drifting": 1, "waiting": 1}
    assert found == {**found, **counts}
    assert found["open_alerts"] == {"warning": 1}
    assert found["versions"][0] == {"model": "digits", "version": "1", "devices": 3}
    text = shown(kit, "status", role="viewer")
    assert "failing 1 drifting 1 waiting 1 open alerts 1 warning" in text
    assert "refused 1 refused a version, or went back from it" in text
    assert "1 digits 2 site=berlin running wave 1 soaks" in text
    assert "devices permit 1" in text


def test_the_status_of_a_part_of_the_fleet_counts_nothing_else(kit):
    fill(kit)
    found = muster_json(kit, "status", "-s", "site=oslo")
    assert (found["devices"], found["failing"], found["drifting"]) == (3, 1, 0)
    assert found["versions"] == [{"model": "digits", "version": "1", "devices": 2}]


def test_the_audit_log_is_looked_through_by_who_did_what_to_whom_and_when(kit):
    fill(kit)
    for device in ("cam-1", "cam-2"):
        kit.http.post(f"{API}/devices/{device}/revoke", headers=kit.as_("operator"))
    shown(kit, "user", "add", "ada@example.com")

    def found(*options: str) -> list[str]:
        return [f"{row['action']} {row['subject']}" for row in
                muster_json(kit, "audit", "list", *options)]  # fmt: skip

    assert found("--did", "device.") == ["device.revoke cam-1", "device.revoke cam-2"]
    assert found("--to", "cam-2") == ["device.revoke cam-2"]
    assert found("--who", "token:a-admin") == ["user.put ada@example.com"]
    assert found("--since", "2100-01-01") == []
    assert len(found("--until", "2100-01-01")) == len(done(kit))


def test_a_list_is_a_table_for_spreadsheets_in_which_nothing_is_a_formula(kit):
    fill(kit)
    with kit.hub.store.write() as session:
        session.get_one(Device, "cam-1").set_aside_fault = "=1+1"
    ended = muster(kit, "device", "list", "--csv")
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [row["id"] for row in rows] == [f"cam-{number}" for number in range(1, 7)]
    assert json.loads(rows[0]["labels"]) == {"site": "berlin"}
    assert (rows[0]["online"], rows[0]["set_aside_fault"]) == ("true", "'=1+1")
    assert "drift/cam-2" in muster(kit, "alert", "list", "--csv").stdout
    assert muster(kit, "user", "list", "--csv").stdout == ""


def test_every_list_is_to_be_had_as_json_and_as_a_table_for_spreadsheets():
    lists = {name: command for name, command in commands(app).items() if name.endswith(" list")}
    assert len(lists) > 10
    for name, command in lists.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--csv"} <= options, name


@pytest.mark.parametrize(("url", "code"), [("", Exit.REFUSED), ("http://127.0.0.1:9", 3)])
def test_an_error_is_json_where_json_was_asked_for(kit, url, code):
    done = subprocess.run(
        [sys.executable, "-c", "from muster_client.entry import main; main()",
         "--hub", url or str(kit.http.base_url), "--token", token_of(kit, "viewer"),
         "device", "show", "cam-9", "--json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    found = json.loads(done.stderr)
    assert found["exit_code"] == code
    if not url:
        assert (found["status"], found["problem"]["code"]) == (404, "not_found")
        assert "no device 'cam-9'" in found["error"]


def test_waves_are_flags_and_the_first_is_the_canary(kit):
    fill(kit)
    asked = ("digits", "1", "-s", "site=oslo", "--wave", "50%", "--wave", "0.9")
    plan = muster_json(kit, "rollout", "plan", *asked)
    assert plan["waves"][0]["count"] == 2  # of three
    view = muster_json(kit, "rollout", "start", *asked)
    assert (view["plan"]["canary"], [wave["share"] for wave in view["plan"]["waves"]]) == (
        0.5, [0.9],
    )  # fmt: skip
    wrong = muster(kit, "rollout", "start", "digits", "1", "--wave", "5%", "--wave", "3").exception
    assert isinstance(wrong, WrongUsage)
    assert "0.5 or 50%" in str(wrong)


def test_a_rollout_that_no_device_matches_is_started_with_a_warning(kit):
    fill(kit)
    ended = muster(kit, "rollout", "start", "digits", "1", "-s", "site=rome", "--json")
    assert ended.exit_code == 0, ended.exception
    assert json.loads(ended.stdout)["state"] == "running"
    assert "beware: no device matches 'site=rome'" in ended.stderr


def test_who_signs_needs_no_shell_on_the_hub_and_reads_what_is_approved(tmp_path):
    vault = {role: keys.generate(tmp_path / f"{role}.key") for role in keys.OFFLINE}
    kit, out = open_kit(tmp_path, offline_public=vault), tmp_path / "carried"
    manifest = (
        b'{"model":"digits","version":"3","lineage":{"source":"git.example/digits","commit":"1f2e",'
        b'"data":"site A 2026","metrics":{"accuracy":0.93}}}'
    )
    try:
        assert [file.name for file in request(kit, out)] == ["root.json", "targets.json"]
        refused = sign(out / "root.json", tmp_path / "release.key").exception
        assert isinstance(refused, CatalogueError)
        assert "may not sign root; these may: " in str(refused)
        for role in ("root", "targets"):
            assert sign(out / f"{role}.json", tmp_path / f"{role}.key").exit_code == 0
        files = [str(out / "root.json"), str(out / "targets.json")]
        assert shown(kit, "trust", "submit", *files, role="releaser") == "Everything is signed."
        with kit.hub.store.write() as session:
            session.add(Model(name="digits", created=1))
            session.flush()
            session.add(Version(model="digits", version="3", manifest=manifest,
                                manifest_sha256=sha256_hex(manifest), created_by="test",
                                status="awaiting_signatures", size_bytes=1, created=1,
                                ))  # fmt: skip
        kit.hub.catalogue.release("digits", "3", manifest, kit.clock())
        request(kit, out)
        said = sign(out / "model-digits.json", tmp_path / "release.key").stdout
        for words in (
            f"digits 3: manifest SHA-256 {sha256_hex(manifest)}",
            "made from: git.example/digits at 1f2e", "trained on: site A 2026",
            "metrics: accuracy 0.93",
        ):  # fmt: skip
            assert words in said
        half = shown(kit, "trust", "submit", str(out / "model-digits.json"), role="releaser")
        assert "Still waiting for signatures: targets" in half
        sign(out / "targets.json", tmp_path / "targets.key")
        done = shown(kit, "trust", "submit", str(out / "targets.json"), role="releaser")
        assert done == "Everything is signed."
        again = muster(kit, "trust", "submit", str(out / "targets.json")).exception
        assert "nothing that waits" in str(again)
    finally:
        kit.close()


def test_a_manifest_that_is_not_the_one_signed_is_not_shown(tmp_path):
    about = requests.About(manifests={"0" * 64: '{"model":"digits","version":"3"}'})
    catalogue_key = keys.generate(tmp_path / "key")
    draft = Metadata(Targets(targets={}))
    draft.signed.targets["digits/3"] = TargetFile(1, {"sha256": "0" * 64}, "digits/3")
    assert list(requests.approved(about, draft.to_bytes())) == []
    signer = keys.load_signer(tmp_path / "key")
    assert signer.public_key.keyid == catalogue_key.keyid
    requests.check_may_sign(about, draft.to_bytes(), signer, "key")  # nothing is known of it


def request(kit: Kit, out: Path) -> list[Path]:
    found = muster_json(kit, "trust", "request", str(out), role="releaser")
    return [Path(file) for file in found["files"]]


def sign(file: Path, key: Path) -> Any:
    return CliRunner().invoke(hub_app, ["sign", str(file), "--key", str(key)])


def test_each_program_says_its_version():
    for name in ("muster", "muster-hub", "muster-agent"):
        done = subprocess.run(
            [Path(sys.executable).parent / name, "--version"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().split()[-1][0].isdigit()


def test_assignments_are_listed_and_withdrawn(kit):
    fill(kit)
    assert shown(kit, "assignment", "list") == "Nothing is assigned."
    body = {"model": "digits", "version": "1", "slot": "main", "selector": "site=berlin"}
    kit.http.put(f"{API}/assignments", json=body, headers=kit.as_("operator"))
    assert "1 main site=berlin digits 1" in shown(kit, "assignment", "list")
    assert "precedence" in shown(kit, "assignment", "show", "1")
    shown(kit, "assignment", "remove", "1", "--yes", role="operator")
    assert muster_json(kit, "assignment", "list") == []
    assert "assignment.delete assignment/1" in done(kit)


def test_people_get_roles_change_them_and_lose_them(kit):
    assert shown(kit, "user", "list") == "Nobody has a role of their own."
    shown(kit, "user", "add", "ada@example.com", "--role", "operator", "-s", "site=berlin")
    again = muster(kit, "user", "add", "ada@example.com").exception
    assert isinstance(again, OperatorError)
    assert "muster user role" in str(again)
    shown(kit, "user", "role", "ada@example.com", "releaser", "--model", "digits")
    (person,) = muster_json(kit, "user", "list")
    assert (person["role"], person["models"], person["selector"]) == ("releaser", ["digits"], "")
    assert "no role yet" in str(muster(kit, "user", "role", "bob", "viewer").exception)
    shown(kit, "user", "remove", "ada@example.com")
    assert muster_json(kit, "user", "list") == []
    assert "user.delete ada@example.com" in done(kit)


def test_a_link_signs_somebody_in_once_and_only_an_admin_makes_it(kit):
    made = muster_json(kit, "user", "link", "ada", "--role", "operator")
    code = made["url"].partition("code=")[2]
    answer = kit.http.post(
        "/sign-in-link", data={"code": code}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.is_redirect, answer.text
    assert "sign-in-link.make ada" in done(kit)
    refused = muster(kit, "user", "link", "ada", role="operator").exception
    assert isinstance(refused, OperatorError)
    assert "role" in str(refused)


def test_a_login_keeps_the_hub_the_token_and_the_ca_where_only_its_owner_reads_them(kit, tmp_path):
    token, profile, url = token_of(kit, "operator"), tmp_path / "me" / "p.toml", kit.http.base_url
    ca = kit.hub.config.data / "ca.pem"
    login = ["login", str(url), "--ca", str(ca), "--to", str(profile)]
    ended = CliRunner().invoke(app, login, input=f"{token}\n")
    assert ended.exit_code == 0, ended.output or ended.exception
    assert token not in ended.output
    assert "a-operator (operator)" in " ".join(ended.stdout.split())
    assert profile.stat().st_mode & 0o777 == 0o600
    found = resolve({}, {}, profile)
    assert (found.hub, found.token, found.ca_pem) == (
        str(url).rstrip("/"), token, ca.read_text()
    )  # fmt: skip
    ended = CliRunner().invoke(app, ["--profile", str(profile), "whoami"])
    assert "role operator" in " ".join(ended.stdout.split())
    again = CliRunner().invoke(app, login, input=f"{token}\n").exception
    assert isinstance(again, WrongUsage)
    assert "--replace" in str(again)
    wrong = CliRunner().invoke(app, [*login, "--replace"], input="wrong\n").exception
    assert isinstance(wrong, OperatorError)
    assert resolve({}, {}, profile).token == token


def test_the_hubs_operator_file_works_where_it_is_copied_to(kit, tmp_path):
    made, copied = kit.hub.config.data / "operator.toml", tmp_path / "elsewhere.toml"
    copied.write_bytes(made.read_bytes())
    there, here = resolve({}, {}, copied), resolve({}, {}, made)
    assert there.ca == ""
    assert there.ca_pem == Path(here.ca).read_text()
    other = resolve({"ca": "mine.pem"}, {}, copied)
    assert (other.ca, other.ca_pem) == ("mine.pem", "")


def test_a_name_that_does_not_resolve_here_says_what_to_do():
    done = subprocess.run(
        [sys.executable, "-c", "from muster_client.entry import main; main()",
         "--hub", "https://hub.invalid", "--token", "x", "device", "list"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "XDG_CONFIG_HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == Exit.UNREACHABLE
    assert "hub.invalid doesn't resolve here" in done.stderr
