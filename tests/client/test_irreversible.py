"""What can't be taken back asks, says whom it reaches, and does nothing where nobody answers."""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from muster_client.app import app as operator
from muster_client.failures import Exit, OperatorError
from muster_hub.admin.main import app as hub_app
from muster_hub.errors import Invalid
from muster_hub.storage.models import Alert, Audit, Device, Model, Rollout, Version
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sampling import SamplingPolicyRow
from support.command_tree import commands
from support.hub_kit import API, Kit, open_kit

OPERATOR = {
    "device revoke": True, "device replace": True, "device delete": True, "device label": True,
    "device rename": False, "device search": False,
    "token revoke": True, "webhook remove": True, "webhook renew": True,
    "rollout abort": True, "rollout rollback": True, "rollout advance": True,
    "drift rebaseline": True, "apply": True, "assignment remove": True,
    "assignment list": False, "assignment show": False, "status": False, "whoami": False,
    "login": False, "user list": False, "user add": False, "user role": False,
    "user remove": False, "user link": False,
    "agent push": False, "agent list": False, "agent show": False,
    "device list": False, "device show": False, "device approve": False, "device retry": False,
    "device restart": True, "device diagnose": False, "device logs": False, "device feeds": False,
    "feed list": False, "feed set": False, "feed remove": False,
    "device enroll-token": False, "model push": False, "model pack": False, "model init": False,
    "model import": False, "model card": False, "model bill": False,
    "alias list": False, "alias set": False, "alias remove": False, "policy show": False,
    "policy set": False, "policy remove": False, "release wait": False, "source list": False,
    "source add": False, "source remove": False, "source run": False, "loop list": False,
    "loop show": False, "loop start": False, "loop approve": False, "loop candidate": False,
    "loop abandon": True, "sampling begin": False, "sampling list": False,
    "sampling show": False, "sampling end": True, "sampling samples": False,
    "sampling download": False, "sampling label": False, "sampling forget": True,
    "model compare": False, "model list": False, "model show": False,
    "baseline fit": False, "baseline import": False,
    "rollout plan": False, "rollout start": False, "rollout list": False,
    "rollout status": False, "rollout explain": False, "rollout pause": False,
    "rollout resume": False, "rollout approve": False, "rollout watch": False,
    "drift show": False, "drift explain": False, "alert list": False,
    "alert ack": False, "alert resolve": False, "alert silence": False, "alert silences": False,
    "alert unsilence": False, "token make": False, "token list": False, "audit list": False,
    "audit verify": False, "audit export": False,
    "webhook list": False, "webhook add": False, "webhook test": False,
    "trust show": False, "trust expiring": False, "trust request": False,
    "trust submit": False, "tail": False,
}  # fmt: skip
"""Every command of `muster`, and whether what it does can't be taken back."""

HUB = {
    "retire": True, "keys set": True, "keys rotate": True, "keys new-epoch": True,
    "audit-archive": True, "broker-files": False, "move": True, "keys rotate-ca": True,
    "init": False, "serve": False, "broker": False, "token": False, "keygen": False,
    "export-public": False, "signing-request": False, "sign": False, "add-signatures": False,
    "keys show": False, "keys refresh": False, "check": False, "sign-model": False,
    "verify-model": False, "record-verify": False,
    "backup": False,
    "partition": False, "restore": False, "audit-verify": False, "placebo": False,
    "console link": False, "agent-release make": False, "agent-release sign": False,
}  # fmt: skip


ASKED = {"features": {"flow": "plain"}, "rows_per_day": 1, "strata": ["random"]}


def asks(command: Any) -> bool:
    return any("--yes" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(("app", "known"), [(operator, OPERATOR), (hub_app, HUB)])
def test_every_command_that_can_not_be_taken_back_asks_and_no_other_does(app, known):
    found = {name: asks(command) for name, command in commands(app).items()}
    assert found == known, "say of each new command whether what it does can be taken back"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    with made.hub.store.write() as session:
        labels = {"site": "berlin"}
        report = {
            "facts": {"understands": ["restart"]},
            "slots": {"main": {"running": {"model": "digits", "version": "1"}}},
        }
        session.add(Device(id="cam-1", labels=labels, created=1, online=True, report=report))
        session.add(Model(name="digits", created=1))
        session.flush()
        for version in ("1", "2"):
            session.add(
                Version(
                    model="digits", version=version, manifest_sha256=version, manifest=b"{}",
                    status="published", size_bytes=1, created=1, created_by="test",
                )
            )  # fmt: skip
        session.add(Alert(key="k", kind="drift", severity="warning", state="open", opened=1,
                          updated=1, title="drift", device="cam-1"))  # fmt: skip
    made.hub.catalogue.release("digits", "1", b"{}", time.time())
    yield made
    made.close()


def muster(kit: Kit, *arguments: str) -> Any:
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    flags = ["--hub", str(kit.http.base_url), "--token", token]
    return CliRunner().invoke(operator, [*flags, *arguments])


def done(kit: Kit) -> list[str]:
    with kit.hub.store.read() as session:
        return [f"{row.action} {row.subject}" for row in session.exec(select(Audit))]


def arrange(kit: Kit, command: str) -> tuple[list[str], list[str]]:
    """Arguments for a command, and what its question has to say."""
    admin = kit.as_("admin")

    def post(path: str, **body: Any) -> Any:
        answer = kit.http.post(f"{API}{path}", json=body, headers=admin)
        assert answer.is_success, answer.text
        return answer.json()

    match command:
        case "token revoke":
            made = post("/tokens", name="ci", role="releaser")
            return [made["id"]], ["ci", "releaser", "whoever uses it is refused"]
        case "webhook remove" | "webhook renew":
            post("/webhooks", name="pager", url="https://pager.example/x")
            return ["pager"], ["https://pager.example/x"]
        case "rollout abort" | "rollout rollback" | "rollout advance":
            number = post("/rollouts", model="digits", version="1")["id"]
            said = "what is waited for" if command == "rollout advance" else "go back to what"
            return [str(number)], ["digits 1, running", said]
        case "drift rebaseline":
            return ["cam-1", "--model", "digits"], ["digits sees on cam-1", "forgotten"]
        case "loop abandon":
            with kit.hub.store.write() as session:
                session.add(LoopRow(model="digits", state="wanted", opened=1, since=1, deadline=9,
                                    cause="drift", opened_by="hub"))  # fmt: skip
            return ["1"], ["loop 1 of digits (wanted)", "cool-down"]
        case "sampling end" | "sampling forget":
            with kit.hub.store.write() as session:
                session.add(SamplingPolicyRow(model="digits", version="1", manifest="1",
                                              bytes_max=1, created=1, created_by="x",
                                              expires=9e9, rows=7, asked=ASKED))  # fmt: skip
            return ["1"], ["sampling policy 1 of digits 1 (7 samples)", "deleted"]
        case "apply":
            file = kit.hub.config.data / "fleet.yaml"
            file.write_text('assignments: [{model: digits, version: "1", slot: main}]\n')
            return ["-f", str(file)], ["1 changes"]
        case _:
            return arrange_device_or_assignment(kit, command)


def arrange_device_or_assignment(kit: Kit, command: str) -> tuple[list[str], list[str]]:
    """The same, for what devices are and what is assigned to them."""
    match command:
        case "device revoke":
            return ["cam-1"], ["site=berlin", "digits 1", "for good", "another id"]
        case "device replace":
            return ["cam-1"], ["the machine that is cam-1 now (site=berlin", "is shut out"]
        case "device delete":
            kit.http.post(f"{API}/devices/cam-1/revoke", headers=kit.as_("admin"))
            return ["cam-1"], ["cam-1 (site=berlin", "off every list for good"]
        case "device restart":
            return ["cam-1"], ["the agent on cam-1 starts anew: digits 1 does not answer"]
        case "device label":
            return ["-s", "site=berlin", "line=2"], ["1 of 1 devices", "get line=2"]
        case "assignment remove":
            body = {"model": "digits", "version": "1", "slot": "main", "selector": "site=berlin"}
            url, admin = f"{API}/assignments", kit.as_("admin")
            number = kit.http.put(url, json=body, headers=admin).json()["id"]
            return [str(number)], ["digits 1 is no longer what site=berlin should run"]
        case _:
            raise AssertionError(command)


@pytest.mark.parametrize("command", [name for name, final in OPERATOR.items() if final])
def test_where_nobody_can_be_asked_nothing_is_done_and_it_is_said_what_would_be(kit, command):
    arguments, says = arrange(kit, command)
    before = done(kit)
    ended = muster(kit, *command.split(), *arguments)
    assert isinstance(ended.exception, OperatorError)
    assert ended.exception.code == Exit.USAGE
    for words in (*says, "say --yes where nobody can be asked"):
        assert words in str(ended.exception)
    assert done(kit) == before
    if command != "drift rebaseline":  # there is nothing to forget on this device
        ended = muster(kit, *command.split(), *arguments, "--yes")
        assert ended.exit_code == 0, ended.exception
        assert done(kit) != before


def hub(kit: Kit, *arguments: str) -> Any:
    return CliRunner().invoke(hub_app, [*arguments, "--data", str(kit.hub.config.data)])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("retire digits 1", "1 devices run it now and go on"),
        ("retire digits", "every version of digits"),
        ("keys rotate snapshot", "the snapshot key of this hub is deleted as soon as this is sig"),
        ("keys new-epoch", "the directives of 0 devices are void"),
        ("move --to https://next.example", "devices seek the hub first where it will be"),
        ("keys rotate-ca", "a second authority is made, and 1 devices are told to believe it"),
        ("audit-archive --before 2020-01-01 --out old.jsonl", "the only copy of them"),
    ],
)
def test_the_hubs_own_commands_ask_likewise(kit, tmp_path, command, says):
    before = done(kit)
    catalogue = {path: path.read_bytes() for path in kit.hub.config.tuf.glob("*.json")}
    ended = hub(kit, *command.split())
    assert isinstance(ended.exception, Invalid)
    assert says in str(ended.exception)
    assert "say --yes where nobody can be asked" in str(ended.exception)
    assert done(kit) == before
    assert {path: path.read_bytes() for path in kit.hub.config.tuf.glob("*.json")} == catalogue


def test_new_keys_for_a_role_ask_with_what_has_to_be_signed(kit, tmp_path):
    assert CliRunner().invoke(hub_app, ["keygen", str(tmp_path / "ann")]).exit_code == 0
    public = f"--public={tmp_path / 'ann.pub'}"
    assert hub(kit, "keys", "set", "release", public, "--dry-run").exit_code == 0
    ended = hub(kit, "keys", "set", "release", public)
    assert "release is signed by 1 of 1 keys, and by no other" in str(ended.exception)
    assert not hub(kit, "keys", "set", "release", public, "--yes").exception


@pytest.mark.parametrize(("answer", "revoked"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_at_a_terminal_only_a_yes_goes_on(kit, answer, revoked):
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    ours, theirs = pty.openpty()
    program = "from muster_client.entry import main; main()"
    flags = ["--hub", str(kit.http.base_url), "--token", token]
    with subprocess.Popen(
        [sys.executable, "-c", program, *flags, "device", "revoke", "cam-1"],
        stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:  # fmt: skip
        os.write(ours, answer.encode())
        assert process.stderr is not None
        asked = process.stderr.read().decode()
    os.close(ours)
    os.close(theirs)
    assert "cam-1 (site=berlin; online; runs digits 1) is shut out for good" in asked
    with kit.hub.store.read() as session:
        assert session.get_one(Device, "cam-1").revoked == revoked
        assert session.exec(select(Rollout)).all() == []
