"""False alerts and missed drift of the rule in time, by simulation, in the scenarios of format 1.

A device's baseline is fitted on its first two days or week of five-minute windows in order; then it
lives a month in which nothing drifts. Every fifth day, and so many windows into life, a twin of its
monitor sees the first feature shifted.
"""

import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np
from bench.signals_charts import Replay
from bench.signals_moments import Drawn, Stream
from bench.signals_streams import Scenario
from scipy import stats

from muster_protocol.signals import learning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.learning import InTime

TRAINING = {"two days": 600, "a week": 2016}
"""Windows, by what the table calls them."""
WINDOWS_PER_DAY, WINDOWS_PER_MONTH = 288, 8640
SHIFT, TRIAL_WINDOWS = 0.5, 12
TRIAL_DAYS = 5
YOUNG_SHIFT, YOUNG_TRIAL_WINDOWS = 1.0, 36
LIVES = (1, 6, 30, 60, WINDOWS_PER_DAY)
"""Windows that a device has lived when a shift begins; the last is calibrated."""


class Cell:
    """One scenario's devices, trained for so long, simulated one after the other."""

    def __init__(self, scenario: Scenario, trained: str, seed: int) -> None:
        self._scenario, self._windows, self._seed = scenario, TRAINING[trained], seed
        self.devices = self.alerts = self.windows = 0
        self.delays: list[int] = []
        """Of the shifts of ``SHIFT``; more than ``TRIAL_WINDOWS``: not found."""
        self.young: dict[int, list[int]] = defaultdict(list)

    def run_device(self, days: int) -> None:
        rng = np.random.default_rng([self._seed, self._windows, self.devices])
        stream = Stream(self._scenario, rng)
        bare = stream.prepared()
        training = stream.draw(bare, self._windows)
        counted = [training.counts(bare, place) for place in range(len(training))]
        trained = learning.learnt(bare, counted, InTime(self._scenario.rows, 300.0))
        replay = Replay(trained)
        self.devices += 1
        for day in range(days):
            drawn = stream.draw(trained, WINDOWS_PER_DAY)
            if day in (0, 1):
                for lived in LIVES[:-1] if day == 0 else LIVES[-1:]:
                    self._young(trained, replay if day else None, drawn, lived)
            opened = replay.feed(drawn)
            self.alerts += int(opened.sum())
            self.windows += len(opened)
            if day % TRIAL_DAYS == TRIAL_DAYS - 1 and not replay.monitor().drifting():
                after = stream.draw(trained, TRIAL_WINDOWS)
                self.delays.append(_delay(replay.monitor(), trained, after, SHIFT))
                replay.feed(after)

    def _young(self, trained: Baseline, replay: Replay | None, drawn: Drawn, lived: int) -> None:
        """A shift after so many windows of life; of a device that lives on, at once."""
        monitor, begin = (replay.monitor(), 0) if replay else (ChartMonitor(trained), lived)
        for window in range(begin):
            monitor.feed(drawn.summary(trained, window))
        if not monitor.drifting():
            some = drawn.part(begin, begin + YOUNG_TRIAL_WINDOWS)
            self.young[lived].append(_delay(monitor, trained, some, YOUNG_SHIFT))

    def row(self) -> dict[str, Any]:
        months = max(self.windows, 1) / WINDOWS_PER_MONTH
        return {
            "training_windows": self._windows,
            "devices": self.devices,
            "months": round(months, 2),
            "alerts": self.alerts,
            "per_month": self.alerts / months,
            "upper": float(stats.chi2.ppf(0.95, 2 * (self.alerts + 1)) / 2 / months),
            "trials": len(self.delays),
            "found_in_3": sum(delay <= 3 for delay in self.delays),
            "found_in_12": sum(delay <= TRIAL_WINDOWS for delay in self.delays),
            "young_median_delay": {
                str(lived): float(np.median(delays)) for lived, delays in self.young.items()
            },
        }


def _delay(monitor: ChartMonitor, trained: Baseline, drawn: Drawn, shift: float) -> int:
    """Windows until a shift is told; one more than there are when it isn't."""
    shifted = drawn.shifted(trained, shift)
    for window in range(len(drawn)):
        found = monitor.feed(shifted.summary(trained, window))
        if any(finding.state == "opened" for finding in found):
            return window + 1
    return len(drawn) + 1


def measured(
    scenario: Scenario, *, devices: int, days: int, seed: int, seconds: float
) -> dict[str, Any]:
    """The row of a scenario: devices until there are so many, or so much time is over."""
    cells = {name: Cell(scenario, name, seed) for name in TRAINING}
    end = time.monotonic() + seconds
    for _ in range(devices):
        for cell in cells.values():
            cell.run_device(days)
        if time.monotonic() > end:
            break
    return asdict(scenario) | {"trained": {name: cell.row() for name, cell in cells.items()}}
