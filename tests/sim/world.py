"""One seed = one world: a hub, a broker, a fleet, people, and everything that goes wrong.

Every draw comes from generators seeded by the world's seed and, for a device's own affairs, its
name. The plan of faults is made first, so that a shorter plan of the same world can be tried.
"""

import gc
import logging
import math
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from muster_agent.app.ports import Shutdown
from muster_agent.update.table import TABLE, Cause
from sim import drift_watch
from sim import faults as f
from sim.catalogue import DOOMED, FINAL, PROBATION_SECONDS, WATCHED, catalogue, scratch
from sim.device import Device
from sim.doubles import HONEST, Doubles
from sim.hostile import Hostile
from sim.hub import Hub
from sim.network import Broker
from sim.operator import AT_ONCE, LOOK_SECONDS, Operator
from sim.scheduler import Scheduler
from sim.trace import Trace
from sim.watch import Violation, Watch

DEVICES = 10
FAULTS = 205
CHAOS_SECONDS = 300.0
CALM_SECONDS = 10.0
"""Between the last fault and the operator's next act."""
CONVERGE_SECONDS = 1200.0
"""After the last fault every device that is there runs what is asked of it within this."""
FAREWELL_SECONDS = 300.0
ROLL_BACK_SECONDS = 400.0
"""A world that has seen no rollback by the last fault waits this long for one."""
BAD = ("errors", "crash")
"""Habits that show in probation and are rolled back."""
LATE_RELEASE = ("digits", "5.0.0")
LATE_SHARE = 0.5
"""Of the worlds, in which a version is only found to be bad after its probation."""
WINDOW_SECONDS = 60.0
WATCHING_SHARE = 0.12
"""Of the worlds, in which a model's inputs are watched for drift, in shorter windows."""
WATCHING_WINDOW_SECONDS = 25.0
WATCHED_WINDOWS = 4
"""That such a fleet serves after it has converged."""
SLOW_SHARE = 0.15
"""Of the worlds, in which half the devices have slow lines, and some of them a meter."""
SLOW_BYTES_PER_SECOND = (150.0, 400.0, 1500.0)
"""A bundle of this world takes from seconds to a minute."""
WORSE = ("golden", "load", "memory", "hang", "killer", "good")
TRANSITIONS = frozenset((state, cause) for state, row in TABLE.items() for cause in row)
_RUNNER = logging.getLogger("muster_agent.update.runner")


@dataclass(frozen=True)
class Outcome:
    seed: int
    events: int
    device_seconds: float
    violation: Violation | None
    digest: str
    transitions: frozenset[tuple[str, str]]
    counts: Counter[str] = field(default_factory=Counter)


class _Steps(logging.Handler):
    """Hears the runner say which row of the table it took."""

    def __init__(self, world: "World") -> None:
        super().__init__(logging.DEBUG)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.DEBUG and isinstance(record.args, tuple):
            slot, before, cause, target = record.args
            self._world.moved(str(slot), str(before), str(cause), str(target))


class World:
    """Subclasses have other devices, people and promises, or live longer."""

    device_kind: type[Device] = Device
    operator_kind: type[Operator] = Operator
    watch_kind: type[Watch] = Watch
    chaos_seconds = CHAOS_SECONDS
    faults = FAULTS

    def __init__(
        self,
        seed: int,
        *,
        doubles: Doubles = HONEST,
        plan: Sequence[f.Fault] | None = None,
        devices: int = DEVICES,
    ) -> None:
        self.seed, self.doubles = seed, doubles
        self.rng = random.Random(f"{seed}/world")
        self.clock = Scheduler()
        self.trace = Trace(self.clock)
        self.catalogue = catalogue()
        self.faults_over = False
        self.counts: Counter[str] = Counter()
        self.transitions: set[tuple[str, str]] = set()
        self.directives: dict[str, list[bytes]] = {}
        self.actor = ""
        drawn = random.Random(f"{seed}/watching").random()
        self.watching = drawn < WATCHING_SHARE
        self.window_seconds = WATCHING_WINDOW_SECONDS if self.watching else WINDOW_SECONDS
        shutil.rmtree(scratch() / "world", ignore_errors=True)
        names = [f"dev-{number:02}" for number in range(devices)]
        self.plan = f.draw(random.Random(f"{seed}/plan"), names, self.faults, self.chaos_seconds)
        if plan is not None:
            self.plan = list(plan)
        self._habits = self._draw_habits()
        self.broker = Broker(self.clock, random.Random(f"{seed}/network"))
        self.broker.directives = self.directives
        self.broker.on_link = self.trace.add
        self.slow, self.metered = self._draw_lines(names)
        self.watch = self.watch_kind(self)
        self.hub = Hub(self)
        self.operator = self.operator_kind(self)
        self.hostile = Hostile(self)
        self.devices = {
            name: self.device_kind(self, name, {"site": "north" if number % 2 else "south"})
            for number, name in enumerate(names)
        }

    def _draw_lines(self, names: list[str]) -> tuple[bool, set[str]]:
        """Slow lines, in some worlds; whether in this one, and which devices are metered."""
        drawn = random.Random(f"{self.seed}/slow/lines")
        if drawn.random() >= SLOW_SHARE:
            return False, set()
        slow = drawn.sample(names, len(names) // 2)
        self.broker.bytes_per_second = {name: drawn.choice(SLOW_BYTES_PER_SECOND) for name in slow}
        return True, set(slow[::2])

    def _draw_habits(self) -> dict[str, str]:
        drawn = random.Random(f"{self.seed}/habits")
        habits = {release.sha256: "good" for release in self.catalogue.releases}
        by_name = {
            (release.model, release.version): release.sha256 for release in self.catalogue.releases
        }
        habits[by_name["digits", "3.0.0"]] = drawn.choice(BAD)
        habits[by_name[DOOMED]] = "errors"
        if random.Random(f"{self.seed}/late").random() < LATE_SHARE:
            habits[by_name[LATE_RELEASE]] = "late"
        habits[by_name["digits", "4.0.0"]] = drawn.choice(WORSE)
        habits[by_name["sounds", "2.0.0"]] = drawn.choice(BAD + WORSE)
        return habits

    def habit(self, manifest: str) -> str:
        """How the workers of a manifest behave in this world."""
        return self._habits.get(manifest, "good")

    def habit_of(self, model: str, version: str) -> str:
        found = [
            release
            for release in self.catalogue.releases
            if (release.model, release.version) == (model, version)
        ]
        return self.habit(found[0].sha256)

    def moved(self, slot: str, before: str, cause: str, target: str) -> None:
        """A device's update took a step of the table."""
        self.transitions.add((before, cause))
        self.counts[f"to {target}"] += 1
        self.trace.add(self.actor, f"{slot}: {before} → {target} ({cause})")
        if cause == Cause.PERMITTED:
            self.watch.permitted(self.devices[self.actor], slot)

    # A run

    def run(self, seconds: float = math.inf) -> Outcome:
        """Live it, or only its first ``seconds``: where they end before the faults do, nothing
        settles and what must hold in the end isn't asked.
        """
        violation = None
        steps = _Steps(self)
        _RUNNER.addHandler(steps)
        level, _RUNNER.propagate = _RUNNER.level, False
        _RUNNER.setLevel(logging.DEBUG)
        logging.disable(logging.NOTSET)
        try:
            self._live(seconds)
        except Violation as found:
            violation = found
            self.trace.add("VIOLATION", str(found))
        except Exception as fault:
            violation = Violation("nothing crashes", traceback.format_exc())
            self.trace.add("VIOLATION", f"{type(fault).__name__}: {fault}")
        finally:
            _RUNNER.removeHandler(steps)
            _RUNNER.setLevel(level)
            _RUNNER.propagate = True
            for device in self.devices.values():
                device.close()
        lived_seconds = self.clock.now * len(self.devices)
        return Outcome(
            self.seed, self.clock.steps, lived_seconds, violation, self.trace.digest,
            frozenset(self.transitions), self.counts,
        )  # fmt: skip

    def _live(self, seconds: float) -> None:
        self._begin()
        for fault in self.plan:
            self.clock.at(fault.at, lambda fault=fault: self._befall(fault))  # type: ignore[misc]  # a bound loop variable
        self._until(min(seconds, self.chaos_seconds))
        if seconds < self.chaos_seconds:
            return
        self.trace.add("world", "the faults stop")
        f.heal(self)
        self._settle()
        self._farewell()

    def _begin(self) -> None:
        self.hub.enrol({name: device.labels for name, device in self.devices.items()})
        self.hub.start()
        for device in self.devices.values():
            device.directory.mkdir(parents=True)
            self.clock.after(self.rng.uniform(0.0, 5.0), device.boot)
        self.hostile.begin()
        self.operator.roll_out("digits", "1.0.0", **AT_ONCE)
        self._plan()
        self.clock.after(LOOK_SECONDS, self.operator.look)

    def _plan(self) -> None:
        """What the people of this world mean to do."""
        self.operator.waiting = [
            ("digits", "3.0.0"), ("sounds", "1.0.0"), ("digits", "2.0.0"), ("sounds", "2.0.0"),
        ]  # fmt: skip
        if self.watching:
            self.operator.roll_out(*WATCHED, **AT_ONCE)
            drift_watch.story(self)
            self.operator.waiting = [("digits", "3.0.0"), ("digits", "2.0.0")]
        self.operator.hasty = {("digits", "3.0.0")}

    def _befall(self, fault: f.Fault) -> None:
        if self.faults_over:
            return
        self.counts["faults"] += 1
        self.counts[fault.kind] += 1
        self.trace.add("fault", str(fault))
        f.KINDS[fault.kind](self, fault)

    def _until(self, when: float) -> None:
        while self.clock.step(when):
            pass

    def _settle(self) -> None:
        """No fault any more: the fleet converges within the bound, whoever stays away."""
        away = self.rng.choice(sorted(self.devices)) if self.rng.random() < 0.5 else None
        if away is not None:
            self.trace.add("world", f"{away} stays away for good")
            self.devices[away].power_cut(1e9)
            self.watch.away.add(away)
        self._until(self.clock.now + CALM_SECONDS)
        if not self.counts["to rolling_back"]:
            self._roll_out(DOOMED, **AT_ONCE)
            end = self.clock.now + ROLL_BACK_SECONDS
            while not self.counts["to rolling_back"] and self.clock.now < end:
                self._until(self.clock.now + 10.0)
        self._roll_out(
            ("digits", FINAL["digits"]), most_down=self.rng.choice([0, 3]), canary=0,
            in_flight_max=0, timeout_seconds=900.0,
        )  # fmt: skip
        end = self.clock.now + CONVERGE_SECONDS
        while not self._converged():
            self._until(self.clock.now + 10.0)
            self.watch.expect(
                self.clock.now < end,
                "convergence",
                f"{CONVERGE_SECONDS:.0f} s after the last fault: {self.watch.astray()}",
            )
        if self.watching:
            self._until(self.clock.now + WATCHED_WINDOWS * WATCHING_WINDOW_SECONDS)
            drift_watch.alerted(self)

    def _roll_out(self, release: tuple[str, str], **plan: Any) -> None:
        end = self.clock.now + CONVERGE_SECONDS
        while not (self.hub.running and self.operator.settle(release, **plan)):
            self._until(self.clock.now + 10.0)
            self.watch.expect(self.clock.now < end, "convergence", "no rollout could start")

    def _converged(self) -> bool:
        return not self.watch.astray()

    def _farewell(self) -> None:
        """Every device stops in good order, and what it counted must reach the hub."""
        here = [device for device in self.devices.values() if device.name not in self.watch.away]
        self.watch.stopping = True
        for device in here:
            device.hear(Shutdown())
        end = self.clock.now + FAREWELL_SECONDS
        while self.clock.now < end:
            self._until(self.clock.now + 5.0)
            if all(item.supervisor and item.supervisor.drained and not item.outbox.stats().rows
                   for item in here):  # fmt: skip
                break
        self.watch.final(here)
        if self.watching:
            drift_watch.check_events(self, here)


def lived(seed: int, doubles: Doubles = HONEST) -> Outcome:
    """A world's outcome, of many.

    Python looks for garbage between worlds only, which saves a sixth of their time, and doesn't
    look at what all worlds share.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return World(seed, doubles=doubles).run()
    finally:
        gc.enable()


__all__ = ["FINAL", "PROBATION_SECONDS", "Outcome", "World", "lived"]
