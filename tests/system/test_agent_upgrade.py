"""A fleet of real agents takes the next version, and leaves bad ones again: from a file, by a hub.

Each version is built from this tree as a release is; agents run from their wheels, by the launcher
of the environment that the tests run in, and are started again as a service would.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from muster_agent.base import config
from muster_agent.selfupdate import record
from muster_client import Hub
from muster_client.answers import Rollout
from muster_client.failures import Unreachable
from muster_hub.demo import settings
from muster_hub.signing import agent_releases
from muster_hub.signing.keys import Keyring
from muster_protocol.wire.agent_release import NAME
from support import agent_wheels
from support.agent_wheels import RUN, built, run
from support.mosquitto import Mosquitto
from support.pki import Authority
from support.served import Served, enrol, finish
from support.tuf_repository import Repository
from support.waiting import eventually

FLEET = ("cam-1", "cam-2")
CRASHES = RUN + '    raise RuntimeError("it does not start")\n'
HANGS = "    import time\n\n    time.sleep(600)\n" + RUN
TRIAL_SECONDS = 60
PATIENT_SECONDS = 900
"""Of a trial that has to pass on a machine that does much else."""
WAIT_SECONDS = 300.0
ROLLOUT_SECONDS = 1200.0
ASKED_MAX = 5
T = TypeVar("T")
pytestmark = [pytest.mark.long, pytest.mark.system, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def needed(tmp_path_factory) -> list[Path]:
    """What an agent needs beside its own wheel, and the next version's own."""
    return agent_wheels.needed(tmp_path_factory.mktemp("wheels"), "7.0")


class Device:
    """A device whose service is always started again."""

    def __init__(self, directory: Path, trial_seconds: int = TRIAL_SECONDS) -> None:
        self.directory = directory
        self._trial_seconds = trial_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._service = threading.Thread(target=self._serve)
        self._service.start()

    def _serve(self) -> None:
        with (self.directory / "log").open("ab") as log:
            while not self._stopping.is_set():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "muster_agent.selfupdate.launcher", "--trial-seconds",
                     str(self._trial_seconds), "run", "--dir", str(self.directory)],
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


class Plant:
    """A hub as a process, and devices that were enrolled at it."""

    def __init__(self, directory: Path) -> None:
        self.served = Served(directory / "hub")
        self.serving = self.served.ready()
        self.hub = Hub.from_profile(self.served.data / "operator.toml")
        signer = Keyring(self.served.data / "keys").signer("targets")
        assert signer is not None
        self.signer = signer
        self.directory = directory
        self.devices: dict[str, Device] = {}

    def enrol(self, name: str) -> None:
        body = {"labels": {}, "uses": 1, "expires_seconds": 600, "device": name}
        enrol(
            sys.executable, "-m", "muster_agent.app.cli", "enroll", "--dir", self.directory / name,
            "--hub", f"https://localhost:{self.served.http}",
            "--token", self.served.ask("/enroll-tokens", body)["token"],
            "--root", self.served.data / "tuf" / "1.root.json",
        )  # fmt: skip
        settings.change(self.directory / name / "agent.toml", {"timers.report_seconds": 2.0})
        self.devices[name] = Device(self.directory / name, PATIENT_SECONDS)

    def versions(self) -> dict[str, str]:
        """The version that each device says that it runs."""
        devices = self.answered(lambda: list(self.hub.devices.list()))
        reports = {found["id"]: found["report"] or {} for found in devices}
        return {name: (said.get("facts") or {}).get("agent_version", "")
                for name, said in reports.items()}  # fmt: skip

    def answered(self, ask: Callable[[], T]) -> T:
        """The hub's answer; a machine with much to do may drop a connection that was idle."""
        for _ in range(ASKED_MAX):
            with suppress(Unreachable):
                return ask()
        return ask()

    def roll_out(self, wheels: list[Path], version: str, ends: str) -> str:
        """Push and roll out a release, one device first; why the rollout ended so."""
        file = self.directory / f"{version}.muster"
        agent_releases.make(wheels, ["agent"], self.signer, file, int(time.time()))
        assert self.hub.agents.push(file)["version"] == version
        begun = self.hub.rollouts.start(NAME, version, canary=1, min_soak_seconds=0)

        def status() -> Rollout:
            return self.answered(lambda: self.hub.rollouts.status(begun["id"]))

        assert eventually(lambda: status()["ended"], ROLLOUT_SECONDS), status()
        found = status()
        assert found["state"] == ends, found["reason"]
        return found["reason"]

    def close(self) -> None:
        for device in self.devices.values():
            device.stop()
        self.hub.close()
        self.serving.terminate()
        finish(self.serving)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    try:
        for name in FLEET:
            made.enrol(name)
        yield made
    finally:
        made.close()


def test_a_hub_brings_the_next_version_to_all_and_a_bad_one_stops_at_the_first_device(
    plant, needed, tmp_path
):
    others = [wheel for wheel in needed if not wheel.name.startswith("muster_edge")]
    assert eventually(lambda: all(plant.versions().values()), WAIT_SECONDS)
    plant.roll_out(needed, "7.0", "completed")
    assert plant.versions() == dict.fromkeys(FLEET, "7.0")
    reason = plant.roll_out([*others, built(tmp_path, "8.0", CRASHES)], "8.0", "stopped")
    assert "agent_taken_back" in reason
    assert plant.versions() == dict.fromkeys(FLEET, "7.0")
    records = [device.record for device in plant.devices.values()]
    assert sum(found.taken_back is not None for found in records) == 1
    running = {found["devices"] for found in plant.hub.agents.list() if found["version"] == "7.0"}
    assert running == {len(FLEET)}
