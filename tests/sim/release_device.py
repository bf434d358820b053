"""A device of the world of agent releases: the real update of the agent, on doubles of the rest.

Real are the order and what follows from it (``wanted.AgentUpdate``), the record of sides and trials
on a real directory, the checks before an installation and the word of health. The launcher's
process, pip, the download and the service are doubles, and the agent is a number of a version.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster_agent.selfupdate import installing, record
from muster_agent.selfupdate.installing import UpdateRefused
from muster_agent.selfupdate.record import AgentTrial, Record, Side
from muster_agent.selfupdate.wanted import AgentInstalled, AgentPorts, AgentUpdate, Surroundings
from muster_agent.storage.content import ChunksMissing
from muster_agent.update.ports import Progress
from muster_protocol.wire import messages
from muster_protocol.wire.agent_release import AgentRelease, Wheel
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal

if TYPE_CHECKING:
    from sim.release_world import ReleaseWorld

TRIAL_SECONDS = 300.0
TICK_SECONDS = 1.0
FACTORY = "1.0"
STAMP = messages.Stamp(b"boot-1", 1.0, 1.0, "synchronised")
WHOLE = "whole"
"""A file in a side that pip wrote last: without it the side can't be started."""


@dataclass(frozen=True)
class Release:
    """What a version is like. ``habit``: good, dies, deaf (never connects) or deadly (takes the
    machine down)."""

    version: str
    issued: int
    habit: str = "good"

    @property
    def goal(self) -> Goal:
        return Goal("muster-agent", self.version, f"{self.issued:064x}", 100)

    @property
    def signed(self) -> AgentRelease:
        wheel = Wheel(f"muster_edge-{self.version}-py3-none-any.whl", 100, "0" * 64)
        return AgentRelease(version=self.version, issued=self.issued, extras=(), wheels=(wheel,))


class Launcher:
    """What ``launcher._start`` does, without its processes."""

    def side(self, directory: Path) -> Side:
        kept = record.change(directory, lambda found: record.begin(found)[0])
        if kept.trial is None:
            return kept.side
        if not (record.side_of(directory, kept.trial.side) / WHOLE).exists():
            record.change(directory, lambda found: record.take_back(found, "its files are gone"))
            return kept.side
        return kept.trial.side


class Installer:
    """What ``installing.install`` does, with files in pip's place; a step at a time."""

    def steps(self, directory: Path, release: Release, *, online: bool) -> Iterator[None]:
        """Raises UpdateRefused; after each step the power may go."""
        found = record.load(directory) or Record()
        installing._check(found, release.signed, retry=True, may_go_back=True)
        side = record.idle(found)
        place = record.side_of(directory, side)
        shutil.rmtree(place, ignore_errors=True)
        yield
        place.mkdir(parents=True)
        (place / "version").write_text(release.version)
        yield
        (place / WHOLE).touch()
        yield
        trial = AgentTrial(side, release.version, release.issued, online)
        record.change(directory, lambda now: record.put_on_trial(now, trial))


class ReleaseDevice:
    """``boot`` starts what the launcher names; it dies, is cut off and comes back by itself."""

    def __init__(self, world: "ReleaseWorld", name: str, directory: Path) -> None:
        self.world, self.name, self.directory = world, name, directory
        self.rng = random.Random(f"{world.seed}/{name}")
        self.life = 0
        self.up = self.connected = False
        self.version = ""
        self.wanted: Release | None = None
        self.attempt = ""
        self.starts: dict[tuple[str, str], int] = {}
        """Starts of a version on trial, by version and the attempt that asked for it."""
        self.told: list[messages.Event] = []
        self.news: list[str] = []
        record.change(directory, lambda _: Record(version=FACTORY, issued=1))

    # Power and the service

    def cut(self, off_seconds: float) -> None:
        """The power goes: what was being done ends where it is."""
        self._end()
        self._later(off_seconds, self.boot)

    def _end(self) -> None:
        self.life += 1
        self.up = self.connected = False

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        life = self.life
        self.world.clock.after(seconds, lambda: self.life == life and act())

    def boot(self) -> None:
        """Also systemd's ``Restart=always``."""
        self.life += 1
        side = self.world.doubles.launcher().side(self.directory)
        held = record.load(self.directory) or Record()
        self.world.watch.started(self, side, held)
        self.up, self.connected = True, False
        self.version = self.version_of(side)
        release = self.world.releases[self.version]
        on_trial = held.trial is not None and side == held.trial.side
        if on_trial:
            key = self.version, self.attempt
            self.starts[key] = self.starts.get(key, 0) + 1
            starts = held.trial.starts if held.trial else 0
            self._later(TRIAL_SECONDS, lambda: self._overdue(side, starts))
        self._begin(side, release)

    def version_of(self, side: Side) -> str:
        if side == "factory":
            return FACTORY
        return (record.side_of(self.directory, side) / "version").read_text()

    def _begin(self, side: Side, release: Release) -> None:
        habit = release.habit
        self.serving = False
        self.trial = self.world.doubles.watch(self.directory, side, self.news.append)
        self.update = AgentUpdate(
            AgentPorts(self.directory, self.version, self._install, self._restart),
            Surroundings(
                delivery=self, install=self, in_the_way=self._in_the_way,  # type: ignore[arg-type]  # the parts of them that are used
                connected=lambda: self.connected, stamp=lambda: STAMP, report=self.told.append,
                changed=lambda: None, rng=self.rng, retry_seconds=(15.0, 90.0),
            ),
        )  # fmt: skip
        if habit == "deadly":
            self._later(self.rng.uniform(1.0, 8.0), lambda: self.cut(5.0))
        elif habit == "dies":
            self._later(self.rng.uniform(0.5, 9.0), self._die)
        if habit != "deadly":
            self._later(self.rng.uniform(1.0, 5.0), self._serve)
        if habit == "good":
            self._later(self.rng.uniform(2.0, 20.0), self._connect)
        self._later(0.0, self._tick)

    def _serve(self) -> None:
        self.serving = True

    def _connect(self) -> None:
        self.connected = self.world.reachable
        if not self.connected:
            self._later(10.0, self._connect)
            return
        self._later(self.rng.uniform(0.5, 4.0), self._hear)

    def _hear(self) -> None:
        """The directive in force, as often as it is sent."""
        self.wanted, self.attempt = self.world.order
        self._want()
        self._later(self.rng.uniform(5.0, 40.0), self._hear)

    def _want(self) -> None:
        self.update.want(self.world.wanted(), self.world.number, self.now)

    def _die(self) -> None:
        self._end()
        self._later(2.0, self.boot)

    def _restart(self) -> None:
        self._later(0.5, self._die)

    def _overdue(self, side: Side, starts: int) -> None:
        why = f"not healthy within {TRIAL_SECONDS:g} s"
        kept = record.change(self.directory, lambda found: record.fault(found, side, starts, why))
        if kept.trial is not None and kept.trial.starts == starts:
            self._die()

    @property
    def now(self) -> float:
        return self.world.clock.now

    def _tick(self) -> None:
        self.update.tick(self.now)
        self.trial.look(self.now, connected=self.connected, serving=self.serving)
        self.world.watch.looked(self)
        self._later(TICK_SECONDS, self._tick)

    def _in_the_way(self) -> str:
        return "the machine runs" if self.now < self.world.busy_until else ""

    # The installer's thread

    def _install(self, goal: Goal, file: Path) -> None:
        release = self.world.releases[goal.version]
        steps = self.world.doubles.installer().steps(self.directory, release, online=True)

        def go_on() -> None:
            try:
                next(steps)
            except StopIteration:
                self._installed(goal, None)
            except UpdateRefused as refused:
                self._installed(goal, (Refusal.AGENT_UNINSTALLABLE, str(refused)))
            else:
                self._later(self.rng.uniform(0.5, 20.0), go_on)

        self._later(self.rng.uniform(0.5, 5.0), go_on)

    def _installed(self, goal: Goal, refusal: tuple[Refusal, str] | None) -> None:
        self.update.installed(AgentInstalled(goal.manifest, refusal), self.now)

    # The download, as far as ``Surroundings`` asks for it

    def begin(self, slot: str, goal: Goal, now: float) -> None:
        def come() -> None:
            lost = self.rng.random() < 0.1
            why = (Refusal.CHUNK_MISSING, "no source has it") if lost else None
            self.update.fetched(why, self.now)

        self._later(self.rng.uniform(2.0, 60.0), come)

    def cancel(self, slot: str, now: float) -> None:
        """What comes all the same is for another state."""

    def progress(self, slot: str) -> Progress:
        return Progress()

    def waiting(self, slot: str) -> str:
        return ""

    def files(self, goal: Goal) -> tuple[Goal]:
        return (goal,)

    @property
    def store(self) -> Any:
        return self

    def write_out(self, file: Path, listed: Goal) -> Iterator[int]:
        """Out of the chunks; one may have rotted."""
        if self.rng.random() < 0.05:
            raise ChunksMissing((listed.manifest,))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"release")
        yield 7
