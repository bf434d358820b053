"""Every line of `muster` in the operator's guide is typed against a hub, in the guide's order."""

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import OperatorError
from muster_hub.storage.models import Alert, Device, Model, Version
from support import models as fixtures
from support.agent_kit import release_file
from support.command_tree import commands
from support.hub_kit import API, Kit, open_kit

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("muster ")]
FLEET = next(text for kind, text in BLOCKS if kind == "yaml")
COMMANDS = commands(app)
ELSEWHERE = {
    "muster login": "tests/client/commands/test_operating.py",
    "muster trust request": "tests/client/commands/test_operating.py",
    "muster trust submit": "tests/client/commands/test_operating.py",
    "muster model pack": "tests/client/packing/test_pack.py",
    "muster model push": "tests/client/commands/test_commands.py",
    "muster rollout watch": "tests/client/commands/test_rollouts.py",
    "muster tail": "tests/client/commands/test_commands.py",
    "muster audit verify --archive": "tests/hub/audit/test_audit_archive.py",
}
"""Lines that need more than a hub with some rows, and the file whose tests run them."""
REFUSED = {
    "muster rollout approve": "waits for no approval",
    "muster rollout rollback": "",
    "muster device retry": "asked to hold nothing",
    "muster device restart": "can't be restarted from afar",
    "muster device logs": "sends no log",
    "muster device diagnose": "knows no diagnosis",
    "muster device feeds": "tell how its feeds stand",
    "muster drift rebaseline": "",
    "muster apply -f fleet.yaml --dry-run --exit-code": "",
}
"""Lines that this fleet gives a reason to refuse, for no agent reports here; words of that."""
NAMES = {
    "MODEL": "digits", "VERSION": "2", "ID": "1", "ALERT": "2", "NAME": "ci", "[SLOT]": "main",
}  # fmt: skip


RELEASE = "agent-0.2.0.muster"


@pytest.fixture(scope="module")
def agent(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    signer = kit.hub.keyring.signer("targets")
    assert signer is not None
    return release_file(tmp_path_factory.mktemp("agent"), "0.2.0", signer, int(kit.clock()))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    made, folder = open_kit(tmp_path_factory.mktemp("guide")), tmp_path_factory.mktemp("bundle")
    fixtures.write_bundle(folder, model="digits", runtimes=("onnx",))
    manifest = (folder / "manifest.json").read_bytes()
    with made.hub.store.write() as session:
        session.add(Model(name="digits", created=1))
        for name, site in (("cam-1", "berlin"), ("cam-2", "oslo"), ("cam-9", "oslo")):
            session.add(Device(id=name, labels={"site": site, "bay": "3"}, created=1, online=True,
                               last_seen=made.clock()))  # fmt: skip
        session.flush()
        for version in ("1", "2"):
            session.add(Version(model="digits", version=version, manifest_sha256=version,
                                manifest=manifest, status="published", size_bytes=1, created=1,
                                lineage={"metrics": {"accuracy": 0.9}},
                                created_by="test"))  # fmt: skip
        for key in ("offline", "drift"):
            session.add(Alert(key=f"{key}/cam-1", kind=key, severity="warning", state="open",
                              opened=time.time(), updated=1, title=key, device="cam-1",
                              detail={"model": "digits", "cause": "sensor"}))  # fmt: skip
    yield made
    made.close()


def typed(line: str, profile: Path, fleet: Path, agent: Path) -> list[str]:
    """The words after `muster`, with what stands for names put in."""
    words = shlex.split(line, comments=True)[1:]
    gone = words[:2] in (["device", "replace"], ["device", "revoke"], ["device", "delete"])
    names = {**NAMES, "DEVICE": "cam-9" if gone else "cam-1", "fleet.yaml": str(fleet),
             RELEASE: str(agent)}  # fmt: skip
    if words[0] == "--profile":
        words = words[2:]
    words = [names.get(word, word) for word in words if word != "--watch"]
    command = next(
        found for name, found in COMMANDS.items() if name.split() == words[: len(name.split())]
    )
    asks = any("--yes" in parameter.opts for parameter in command.params)
    return ["--profile", str(profile), *words, *(["--yes"] if asks else [])]


def begins(line: str, table: dict[str, str]) -> str | None:
    return next((words for start, words in table.items() if line.startswith(start)), None)


def test_each_line_of_the_operators_guide_does_what_it_says(kit, agent, tmp_path):
    token = kit.as_("admin")["Authorization"].removeprefix("Bearer ")
    profile, fleet = tmp_path / "operator.toml", tmp_path / "fleet.yaml"
    profile.write_text(f'hub = "{kit.http.base_url}"\ntoken = "{token}"\n')
    fleet.write_text(FLEET)
    wrong = []
    for line in LINES:
        if begins(line, ELSEWHERE) is not None:
            continue
        ended = CliRunner().invoke(app, typed(line, profile, fleet, agent))
        said = str(ended.exception or ended.output)
        reason = begins(line, REFUSED)
        if reason is None and ended.exit_code:
            wrong.append((line, said))
        if reason is not None and (not ended.exit_code or reason not in said):
            wrong.append((line, said))
    assert wrong == []


def test_what_is_run_elsewhere_is_run_there():
    for start, file in ELSEWHERE.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f'"{start.split()[-1]}"' in text, start


def test_a_shell_completes_names_that_the_hub_knows_and_says_nothing_where_it_has_none(kit):
    token = kit.as_("viewer")["Authorization"].removeprefix("Bearer ")
    begun = f"muster --hub {kit.http.base_url} --token {token}"

    def completed(line: str, hub: str = begun) -> list[str]:
        words = f"{hub} {line}"
        ended = CliRunner().invoke(
            app, [], prog_name="muster",
            env={"_MUSTER_COMPLETE": "complete_bash", "COMP_WORDS": words,
                 "COMP_CWORD": str(len(words.split(" ")) - 1)},
        )  # fmt: skip
        assert not isinstance(ended.exception, OperatorError)
        return ended.stdout.split()

    assert completed("device show cam-1") == ["cam-1"]
    assert completed("rollout start dig") == ["digits"]
    assert completed("device rep") == ["replace"]
    assert completed("device show cam-", "muster --hub http://127.0.0.1:9") == []
    assert kit.http.get(f"{API}/health").is_success
