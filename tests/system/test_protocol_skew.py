"""An agent two changes of the directive behind its hub, and one ahead of it by as much, are served.

The older side is this repository's own code of then, out of its history, on today's libraries.
"""

import io
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster_client import Hub
from muster_hub.demo import settings
from muster_hub.signing.keys import Keyring
from muster_protocol.wire.agent_release import NAME
from support import models
from support.agent_kit import release_file
from support.served import Served, enrol, finish
from support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
DIRECTIVE = "protocol/muster_protocol/wire/directive.py"
UNKNOWN_THEN = "feed_watches"
"""A field of the directive that the older side does not know yet, nor any that came later."""
WAIT_SECONDS = 600.0
DEVICE = "cam-1"
pytestmark = [pytest.mark.long, pytest.mark.system, pytest.mark.timeout(2000)]


def git(*words: str) -> bytes:
    found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if found.returncode:
        pytest.skip(f"without this repository's history: {found.stderr.decode()[:200]}")
    return found.stdout


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the code from before the field, and the libraries of this one."""
    commits = git("log", "--reverse", "--format=%H", "-S", UNKNOWN_THEN, "--", DIRECTIVE).split()
    if not commits:
        pytest.skip("this repository's history does not reach back so far")
    folder = tmp_path_factory.mktemp("older")
    tree = git("archive", f"{commits[0].decode()}^", "protocol", "agent", "hub")
    with tarfile.open(fileobj=io.BytesIO(tree)) as archive:
        archive.extractall(folder / "tree", filter="data")
    assert UNKNOWN_THEN not in (folder / "tree" / DIRECTIVE).read_text()
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
    subprocess.run(command, check=True, timeout=120)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    rooms = [folder / "tree" / name for name in ("protocol", "agent", "hub")]
    places = [*rooms, Path(sysconfig.get_path("purelib"))]
    (site / "older.pth").write_text("".join(f"{place}\n" for place in places))
    return folder / "venv" / "bin" / "python"


class Side:
    """A hub, an agent that is enrolled at it, and the model that it is to run."""

    def __init__(self, folder: Path, hub: Path | None, agent: Path) -> None:
        self.served = Served(folder / "hub", python=hub)
        self.serving = self.served.ready()
        self.hub = Hub.from_profile(self.served.data / "operator.toml")
        self.directory = folder / DEVICE
        self._agent = [agent, "-c", "from muster_agent.entry import agent; agent()"]
        body = {"labels": {}, "uses": 1, "expires_seconds": 600, "device": DEVICE}
        enrol(
            *self._agent, "enroll", "--dir", self.directory,
            "--hub", f"https://localhost:{self.served.http}",
            "--token", self.served.ask("/enroll-tokens", body)["token"],
            "--root", self.served.data / "tuf" / "1.root.json",
        )  # fmt: skip
        settings.change(self.directory / "agent.toml", {"timers.report_seconds": 2.0})
        models.write_bundle(folder / "bundle", model="digits", runtimes=("onnx",))
        self.hub.push(folder / "bundle", wait_seconds=WAIT_SECONDS)

    @contextmanager
    def running(self) -> Iterator[None]:
        with (self.directory / "log").open("wb") as log:
            command = [*self._agent, "run", "--dir", self.directory]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(120)

    def roll_out(self, model: str, version: str) -> tuple[str, str]:
        """How a rollout to the one device ends, and why."""
        number = self.hub.rollouts.start(model, version, canary=1, min_soak_seconds=0)["id"]
        self.wait(lambda: self.hub.rollouts.status(number)["ended"])
        found = self.hub.rollouts.status(number)
        return found["state"], found["reason"]

    def runs(self) -> str:
        """The version of its model that the device reports to run."""
        running = self.hub.devices.show(DEVICE)["running"].get("main")
        return str(running["version"]) if running else ""

    def refusal(self) -> str:
        """Why the device refused the latest directive or metadata; empty: it did not."""
        report = self.hub.devices.show(DEVICE)["report"] or {}
        return str(report.get("refusal") or "")

    def wait(self, fact: Callable[[], object]) -> None:
        assert eventually(lambda: bool(fact()), WAIT_SECONDS), (self.directory / "log").read_text()[
            -4000:
        ]

    def close(self) -> None:
        self.hub.close()
        self.serving.terminate()
        finish(self.serving)


def test_an_older_agent_takes_models_of_this_hub_and_refuses_nothing_it_is_not_told(
    older, tmp_path
):
    side = Side(tmp_path, None, older)
    try:
        with side.running():
            assert side.roll_out("digits", "1")[0] == "completed"
            signer = Keyring(side.served.data / "keys").signer("targets")
            assert signer is not None
            side.hub.agents.push(release_file(tmp_path, "9.0", signer, int(time.time())))
            state, reason = side.roll_out(NAME, "9.0")
            assert (state, "muster-agent-launch" in reason) == ("stopped", True), reason
            assert side.runs() == "1"
            assert not side.refusal()
    finally:
        side.close()


def test_this_agent_takes_models_of_an_older_hub(older, tmp_path):
    side = Side(tmp_path, older, Path(sys.executable))
    try:
        with side.running():
            assert side.roll_out("digits", "1")[0] == "completed"
            assert side.runs() == "1"
            assert not side.refusal()
    finally:
        side.close()
