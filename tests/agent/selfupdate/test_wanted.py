"""A release that a directive names: fetched in chunks, tried once, and left alone when refused."""

import hashlib
import io
from pathlib import Path

import pytest
from msgspec import UNSET

from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import AgentTrial, Record
from muster_agent.selfupdate.wanted import AgentInstalled, AgentPorts
from muster_protocol.wire import agent_release, chunks, listing
from muster_protocol.wire.directive import Goal, WantedAgent
from muster_protocol.wire.errors import Refusal
from support.agent_world import DEVICE, Device, World

NAME = agent_release.NAME


class Machine:
    """A device whose launcher and installer do what a test says."""

    def __init__(self, directory: Path) -> None:
        self.world = World()
        self.device = Device(self.world, directory)
        self.version = "1.0"
        self.installs: list[tuple[str, bytes]] = []
        self.restarts = 0
        self.refusal: tuple[Refusal, str] | None = None
        self.hangs = False
        record.change(directory, lambda _: Record("a", "1.0", 100))
        self.boot()

    def boot(self) -> None:
        """Start what the launcher would start."""
        if self.device.supervisor is not None:
            self.device.cut()
        self.device.agent = AgentPorts(
            self.device.directory, self.version, self.install, self.restart
        )
        self.device.boot()

    def install(self, goal: Goal, file: Path) -> None:
        self.installs.append((goal.version, file.read_bytes()))
        if not self.hangs:
            self.end_install(goal)

    def end_install(self, goal: Goal) -> None:
        if self.refusal is None:
            trial = AgentTrial("b", goal.version, 200, online=True)
            record.change(self.device.directory, lambda now: record.put_on_trial(now, trial))
        self.device.inbox.append(AgentInstalled(goal.manifest, self.refusal))

    def restart(self) -> None:
        self.restarts += 1

    def release(self, version: str, size: int = 300_000) -> tuple[Goal, bytes]:
        """Publish a release's file in chunks, and what a directive says of it."""
        data = self.world.rng.randbytes(size)
        pieces: list[bytes] = []
        entry = listing.cut_file(
            f"agent-{version}.muster", io.BytesIO(data), lambda piece: pieces.append(bytes(piece))
        )
        encoded = agent_release.encode_listing(version, entry)
        self.world.publish_chunks([*pieces, encoded])
        return Goal(NAME, version, chunks.sha256_hex(encoded), len(encoded)), data

    def direct(self, goal: Goal | None, attempt: str = "") -> None:
        wanted = WantedAgent(goal, attempt or UNSET) if goal else UNSET
        self.world.direct(None, agent=wanted, sources=1)
        self.device.run(20.0)

    def try_release(self, *, healthy: bool) -> None:
        """What launcher and trial do with what was installed."""
        directory = self.device.directory
        tried, side = record.begin(record.load(directory) or Record())
        record.change(directory, lambda _: tried)
        assert tried.trial is not None
        if healthy:
            self.version = tried.trial.version
            record.change(directory, lambda now: record.passed(now, side))
        else:
            record.change(directory, lambda now: record.take_back(now, "it crashed"))
        self.boot()
        self.device.run(10.0)

    @property
    def update(self):
        report = self.device.supervisor.report()
        return report.facts.agent_update

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(e.kind, e.version) for e in self.device.events if e.slot == NAME]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / DEVICE)


def test_the_release_that_a_directive_names_is_fetched_installed_and_tried(machine):
    goal, data = machine.release("2.0")
    machine.direct(goal)
    ((version, file),) = machine.installs
    assert (version, hashlib.sha256(file).digest()) == ("2.0", hashlib.sha256(data).digest())
    assert machine.restarts == 1
    assert machine.update.state == "starting"
    machine.try_release(healthy=True)
    assert (machine.update.state, machine.update.manifest) == ("committed", goal.manifest)
    assert len(machine.installs) == 1
    assert not list((machine.device.directory / record.DIRECTORY).glob("*.muster"))


def test_one_that_was_taken_back_is_refused_until_a_fresh_attempt(machine):
    goal, _ = machine.release("2.0")
    machine.direct(goal)
    machine.try_release(healthy=False)
    assert (machine.update.state, machine.update.refusal) == ("failed", Refusal.AGENT_TAKEN_BACK)
    assert "it crashed" in machine.update.detail
    for _ in range(2):
        machine.boot()
        machine.device.run(10.0)
    assert machine.heard == [("rolled_back", "2.0")]
    assert len(machine.installs) == 1
    machine.direct(goal, attempt="7.0")
    assert len(machine.installs) == 2
    machine.try_release(healthy=True)
    assert machine.update.state == "committed"


def test_nothing_is_installed_while_the_link_is_away_that_could_not_be_asked_to_find_it(machine):
    goal, _ = machine.release("2.0")
    machine.device.forbidden = "the press is closed"
    machine.direct(goal)
    machine.world.broker.cut(DEVICE)
    machine.device.forbidden = ""
    machine.device.run(60.0)
    assert not machine.installs
    assert "the link to the hub" in machine.update.waiting_for
    machine.world.broker.restore(DEVICE)
    machine.device.run(60.0)
    assert [version for version, _ in machine.installs] == ["2.0"]


def test_a_hold_and_the_machine_keep_the_agent_from_restarting(machine):
    goal, _ = machine.release("2.0")
    machine.device.forbidden = "the press is closed"
    machine.direct(goal)
    assert (machine.update.state, machine.update.waiting_for) == ("staged", "the press is closed")
    assert not machine.installs
    machine.device.forbidden = ""
    machine.device.run(10.0)
    assert machine.restarts == 1


def test_a_release_that_can_not_be_installed_is_told_once_and_not_tried_again(machine):
    goal, _ = machine.release("2.0")
    machine.refusal = (Refusal.AGENT_UNINSTALLABLE, "no wheel fits")
    machine.direct(goal)
    machine.boot()
    machine.device.run(4000.0)
    assert machine.heard == [("refused", "2.0")]
    assert (machine.update.state, machine.update.detail) == ("failed", "no wheel fits")
    assert (len(machine.installs), machine.restarts) == (1, 0)


def test_want_of_space_passes_and_the_release_is_tried_again_by_itself(machine):
    goal, _ = machine.release("2.0")
    machine.refusal = (Refusal.NO_SPACE, "the disk is full")
    machine.direct(goal)
    assert machine.update.refusal == Refusal.NO_SPACE
    machine.refusal = None
    machine.device.run(200.0)
    assert (machine.restarts, machine.heard) == (1, [("refused", "2.0")])


def test_what_is_not_wanted_any_more_when_it_is_installed_is_never_tried(machine):
    goal, _ = machine.release("2.0")
    machine.hangs = True
    machine.direct(goal)
    machine.direct(None)
    machine.end_install(goal)
    machine.device.run(10.0)
    assert machine.restarts == 0
    assert record.load(machine.device.directory).trial is None
    assert machine.update is None


def test_an_agent_that_no_launcher_started_leaves_the_order_alone(machine):
    goal, _ = machine.release("2.0")
    machine.device.cut()
    machine.device.agent = None
    machine.device.boot()
    machine.direct(goal)
    assert (machine.installs, machine.update) == ([], None)
