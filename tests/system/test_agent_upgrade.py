"""A fleet of real agents takes the next version from a file, and leaves two bad ones again.

Each version is built from this tree as a release is; agents run from their wheels, by the launcher
of the environment that the tests run in, and are started again as a service would.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_agent.base import config
from muster_agent.selfupdate import record
from muster_hub.signing import agent_releases
from support import agent_wheels
from support.agent_wheels import RUN, built, run
from support.mosquitto import Mosquitto
from support.pki import Authority
from support.tuf_repository import Repository

FLEET = ("cam-1", "cam-2")
CRASHES = RUN + '    raise RuntimeError("it does not start")\n'
HANGS = "    import time\n\n    time.sleep(600)\n" + RUN
TRIAL_SECONDS = 60
WAIT_SECONDS = 300.0
pytestmark = [pytest.mark.long, pytest.mark.system, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def needed(tmp_path_factory) -> list[Path]:
    """What an agent needs beside its own wheel, and the next version's own."""
    return agent_wheels.needed(tmp_path_factory.mktemp("wheels"), "7.0")


class Device:
    """A device whose service is always started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._service = threading.Thread(target=self._serve)
        self._service.start()

    def _serve(self) -> None:
        with (self.directory / "log").open("ab") as log:
            while not self._stopping.is_set():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "muster_agent.selfupdate.launcher", "--trial-seconds",
                     str(TRIAL_SECONDS), "run", "--dir", str(self.directory)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
                self._process.wait()
                self._stopping.wait(0.5)

    def stop(self) -> None:
        self._stopping.set()
        while self._service.is_alive():
            if self._process is not None:
                self._process.terminate()
            self._service.join(timeout=30)

    def apply(self, file: Path) -> None:
        run(sys.executable, "-m", "muster_agent.app.cli", "self", "apply", file,
            "--dir", self.directory)  # fmt: skip

    def until(self, words: str) -> None:
        """The service's log says so, after what it said before."""
        deadline = time.monotonic() + WAIT_SECONDS
        while words not in self.log:
            assert time.monotonic() < deadline, f"{words!r} did not come: {self.log[-4000:]}"
            time.sleep(0.2)  # it is another process, which starts a virtual environment

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    @property
    def record(self) -> record.Record:
        found = record.load(self.directory)
        assert found is not None
        return found


@pytest.fixture
def repository() -> Repository:
    return Repository(now=int(time.time()))


@pytest.fixture
def fleet(tmp_path: Path, repository: Repository) -> Iterator[list[Device]]:
    authority = Authority(tmp_path)
    with Mosquitto(tmp_path, authority) as broker:
        devices = []
        for name in FLEET:
            directory = tmp_path / name
            (directory / "identity").mkdir(parents=True)
            (directory / "trust").mkdir()
            pair = authority.issue(name)
            for source, kept in ((pair.key, "key"), (pair.cert, "cert"), (authority.cert, "ca")):
                (directory / "identity" / f"{kept}.pem").write_bytes(source.read_bytes())
            (directory / "trust" / "root.json").write_bytes(repository.factory_root)
            config.write(directory, {
                "device": name, "broker.host": "127.0.0.1", "broker.port": broker.port,
            })  # fmt: skip
            devices.append(Device(directory))
        yield devices
        for device in devices:
            device.stop()


def test_agents_take_the_next_version_and_leave_those_that_crash_or_never_get_healthy(
    fleet, repository, needed, tmp_path
):
    signer = repository.keys["targets"][0]
    others = [wheel for wheel in needed if not wheel.name.startswith("muster_edge")]

    def release(version: str, wheels: list[Path]) -> Path:
        out = tmp_path / f"{version}.muster"
        agent_releases.make(wheels, ["agent"], signer, out, repository.now)
        return out

    good = release("7.0", needed)
    crashes = release("8.0", [*others, built(tmp_path, "8.0", CRASHES)])
    hangs = release("9.0", [*others, built(tmp_path, "9.0", HANGS)])
    for device in fleet:
        device.until("serving")
        device.apply(good)
    for device in fleet:
        device.until("agent 7.0 is in place and healthy")
        assert (device.record.side, device.record.version) == ("a", "7.0")
        assert f"{record.side_of(device.directory, 'a')}" in _command(device)
    for file, version, why in ((crashes, "8.0", "never healthy"), (hangs, "9.0", "not healthy")):
        for device in fleet:
            device.apply(file)
        for device in fleet:
            device.until(f"agent {version} was taken back")
            assert (device.record.side, device.record.version) == ("a", "7.0")
            assert why in record.words(device.record)
            assert f"{record.side_of(device.directory, 'a')}" in _command(device)


def _command(device: Device) -> str:
    """How the agent that holds the device's directory was started."""
    pid = int((device.directory / "agent.pid").read_text())
    return Path(f"/proc/{pid}/cmdline").read_text()
