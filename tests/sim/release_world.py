"""Releases of the agent itself on a fleet that loses its power: one side always starts.

An operator asks for one release after another, good and bad, newer and older, and for fresh tries
of what was refused. Devices fetch, install, restart and try it, are cut off at any moment, lose
their link and are held by their machines.
"""

import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import STARTS_MAX, Record, Side
from muster_agent.selfupdate.trial import TrialWatch
from muster_protocol.wire.directive import WantedAgent
from sim.catalogue import scratch
from sim.release_device import FACTORY, WHOLE, Installer, Launcher, Release, ReleaseDevice
from sim.scheduler import Scheduler
from sim.watch import Violation

DEVICES = 6
CHAOS_SECONDS = 4 * 3600.0
ORDER_SECONDS = (200.0, 2400.0)
CUT_SECONDS = (20.0, 1500.0)
OUTAGE_SECONDS = (300.0, 3000.0)
CONVERGE_SECONDS = 3 * 3600.0
"""A bad release may be tried five times, five minutes each, before it is left."""
LAST = "9.0"
RELEASES = (
    Release(FACTORY, 1), Release("2.0", 20), Release("2.1", 21, "dies"), Release("2.2", 22, "deaf"),
    Release("3.0", 30), Release("3.1", 31, "deadly"), Release("4.0", 40), Release(LAST, 90),
)  # fmt: skip


@dataclass(frozen=True)
class ReleaseDoubles:
    """A planted bug replaces one."""

    launcher: Callable[[], Launcher] = Launcher
    installer: Callable[[], Installer] = Installer
    watch: Callable[..., TrialWatch] = TrialWatch


@dataclass(frozen=True)
class ReleaseOutcome:
    seed: int
    violation: Violation | None
    device_seconds: float
    counts: Counter[str]
    steps: int


class ReleaseWatch:
    """What must hold."""

    def __init__(self, world: "ReleaseWorld") -> None:
        self.world = world
        self._held: dict[str, Record] = {}

    def expect(self, holds: object, invariant: str, detail: str) -> None:
        if not holds:
            raise Violation(invariant, detail)

    def started(self, device: ReleaseDevice, side: Side, held: Record) -> None:
        """At each start: what was chosen can be started, and is what the record says."""
        if side == "factory":
            return
        place = record.side_of(device.directory, side)
        self.expect(
            (place / WHOLE).exists(),
            "one whole release always starts",
            f"{device.name} starts side {side}, which is not whole",
        )
        trial = held.trial
        on_trial = trial is not None and trial.side == side
        named = trial.version if trial is not None and on_trial else held.version
        self.expect(
            device.version_of(side) == named,
            "what starts is what the record says",
            f"{device.name} starts {device.version_of(side)}, its record says {named}",
        )

    def looked(self, device: ReleaseDevice) -> None:
        """After each turn of an agent."""
        held = record.load(device.directory) or Record()
        before = self._held.get(device.name, held)
        self._held[device.name] = held
        good = self.world.releases[held.version].habit == "good"
        self.expect(good, "a bad release is never kept", f"{device.name} keeps {held.version}")
        self.expect(
            held.issued >= before.issued or held.version == before.before,
            "nobody goes back further than to what ran before",
            f"{device.name} went from {before.version} to {held.version}",
        )
        if held.version != before.version:
            self.world.counts["in place"] += 1
        if held.taken_back is not None and held.taken_back != before.taken_back:
            self.world.counts["taken back"] += 1
        for (version, attempt), count in device.starts.items():
            asked = self.world.asked[version, attempt]
            self.expect(
                count <= (STARTS_MAX + 1) * asked,
                "tries are bounded",
                f"{device.name} has started {version} {count} times on trial, asked {asked} times",
            )

    def settled(self, device: ReleaseDevice) -> bool:
        """It runs what is wanted, or says why not."""
        report = device.update.report() if device.up else None
        if report is None:
            return False
        if self.world.order[0].habit == "good":
            return device.version == self.world.order[0].version and report.state == "committed"
        return report.state == "failed" and bool(report.detail)


class ReleaseWorld:
    def __init__(self, seed: int, doubles: ReleaseDoubles | None = None) -> None:
        self.seed, self.doubles = seed, doubles or ReleaseDoubles()
        self.rng = random.Random(f"{seed}/releases")
        self.clock = Scheduler()
        self.counts: Counter[str] = Counter()
        self.releases = {release.version: release for release in RELEASES}
        self.number = 0
        self.order: tuple[Release, str] = (self.releases[FACTORY], "")
        self.asked: Counter[tuple[str, str]] = Counter()
        self.reachable, self.busy_until, self.over = True, 0.0, False
        self.watch = ReleaseWatch(self)
        root = scratch() / "releases"
        shutil.rmtree(root, ignore_errors=True)
        self.devices = []
        for number in range(DEVICES):
            directory = root / f"dev-{number}"
            directory.mkdir(parents=True)
            self.devices.append(ReleaseDevice(self, f"dev-{number}", directory))

    def wanted(self) -> WantedAgent:
        """As the directive says it."""
        release, attempt = self.order
        named: str | UnsetType = attempt or UNSET
        return WantedAgent(release=release.goal, attempt=named)

    def run(self) -> ReleaseOutcome:
        violation = None
        try:
            self._live()
        except Violation as found:
            violation = found
        except Exception:
            violation = Violation("nothing crashes", traceback.format_exc())
        lived = self.clock.now * len(self.devices)
        return ReleaseOutcome(self.seed, violation, lived, self.counts, self.clock.steps)

    def _live(self) -> None:
        for device in self.devices:
            self.clock.after(self.rng.uniform(0.0, 10.0), device.boot)
        self._again(ORDER_SECONDS, self._ask)
        self._again(CUT_SECONDS, self._cut)
        self._again(OUTAGE_SECONDS, self._lose)
        self._until(CHAOS_SECONDS)
        self.over, self.reachable, self.busy_until = True, True, 0.0
        self._settle(self.releases[self.rng.choice(["2.1", "2.2", "3.1", LAST])])
        self._settle(self.releases[LAST])

    def _again(self, between: tuple[float, float], act: Callable[[], None]) -> None:
        def later() -> None:
            if not self.over:
                act()
                self._again(between, act)

        self.clock.after(self.rng.uniform(*between), later)

    def _until(self, when: float) -> None:
        while self.clock.step(when):
            pass

    def _ask(self) -> None:
        release = self.rng.choice([item for item in RELEASES if item.version != LAST])
        self._order(release, "" if self.rng.random() < 0.6 else f"retry-{self.number}")

    def _order(self, release: Release, attempt: str) -> None:
        self.number += 1
        self.order = release, attempt
        self.asked[release.version, attempt] += 1
        self.counts["orders"] += 1

    def _cut(self) -> None:
        self.counts["power cuts"] += 1
        device = self.rng.choice(self.devices)
        device.cut(self.rng.uniform(1.0, 60.0))
        self.busy_until = self.clock.now + self.rng.choice([0.0, 0.0, 120.0])

    def _lose(self) -> None:
        self.counts["outages"] += 1
        self.reachable = False
        for device in self.devices:
            device.connected = False

        def back() -> None:
            self.reachable = True
            for device in self.devices:
                if device.up and self.releases[device.version].habit == "good":
                    device._later(device.rng.uniform(1.0, 20.0), device._connect)

        self.clock.after(self.rng.uniform(10.0, 200.0), back)

    def _settle(self, release: Release) -> None:
        self._order(release, f"settle-{self.number}")
        end = self.clock.now + CONVERGE_SECONDS
        while not all(self.watch.settled(device) for device in self.devices):
            self._until(self.clock.now + 10.0)
            late = [device for device in self.devices if not self.watch.settled(device)]
            self.watch.expect(
                self.clock.now < end or not late,
                "convergence",
                f"asked for {release.version} ({release.habit}): "
                + "; ".join(
                    f"{device.name} runs {device.version or 'nothing'}, "
                    f"{device.update.report() if device.up else 'down'}"
                    for device in late
                ),
            )
