"""False alerts and missed drift of the rule in time, by simulation, in the scenarios of format 1.

A device is trained on its first week of five-minute windows in order, and on the last two
days of it; then it lives a month in which nothing drifts, under both. Every fifth day, and so many
windows into life, a twin of its monitor sees the first feature shifted.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
SCENARIO_SEEDS = {"iid": 0, "wander": 1, "weak": 2, "ar": 3}


@dataclass
class Cell:
    """What devices trained for so long did in one scenario."""

    training_windows: int
    devices: int = 0
    alerts: int = 0
    windows: int = 0
    delays: list[int] = field(default_factory=list)
    """Of the shifts of ``SHIFT``; more than ``TRIAL_WINDOWS``: not found."""
    young: dict[int, list[int]] = field(default_factory=lambda: {lived: [] for lived in LIVES})

    def __add__(self, other: "Cell") -> "Cell":
        return Cell(
            self.training_windows, self.devices + other.devices, self.alerts + other.alerts,
            self.windows + other.windows, self.delays + other.delays,
            {lived: self.young[lived] + other.young[lived] for lived in LIVES},
        )  # fmt: skip

    def row(self) -> dict[str, Any]:
        months = max(self.windows, 1) / WINDOWS_PER_MONTH
        return {
            "training_windows": self.training_windows,
            "devices": self.devices,
            "months": round(months, 2),
            "alerts": self.alerts,
            "per_month": self.alerts / months,
            "upper": float(stats.chi2.ppf(0.95, 2 * (self.alerts + 1)) / 2 / months),
            "trials": len(self.delays),
            "found_in_3": sum(delay <= 3 for delay in self.delays),
            "found_in_12": sum(delay <= TRIAL_WINDOWS for delay in self.delays),
            "young_median_delay": {
                str(lived): float(np.median(delays))
                for lived, delays in self.young.items()
                if delays
            },
        }


class Life:
    """A device under one of its baselines."""

    def __init__(self, trained: Baseline, training_windows: int) -> None:
        self._trained, self._replay = trained, Replay(trained)
        self.cell = Cell(training_windows, devices=1)

    def day(self, number: int, drawn: Drawn) -> None:
        """The next day's windows, after what twins would say to a shift at its beginning."""
        if number == 0:
            for lived in LIVES[:-1]:
                young = ChartMonitor(self._trained)
                for window in range(lived):
                    young.feed(drawn.summary(self._trained, window))
                self._try_young(young, drawn, lived, lived)
        elif number == 1:
            self._try_young(self._replay.monitor(), drawn, LIVES[-1], 0)
        if number % TRIAL_DAYS == TRIAL_DAYS - 1:
            twin = self._replay.monitor()
            if not twin.drifting():
                some = drawn.part(0, TRIAL_WINDOWS)
                self.cell.delays.append(_delay(twin, self._trained, some, SHIFT))
        opened = self._replay.feed(drawn)
        self.cell.alerts += int(opened.sum())
        self.cell.windows += len(opened)

    def _try_young(self, monitor: ChartMonitor, drawn: Drawn, lived: int, begin: int) -> None:
        if not monitor.drifting():
            some = drawn.part(begin, begin + YOUNG_TRIAL_WINDOWS)
            self.cell.young[lived].append(_delay(monitor, self._trained, some, YOUNG_SHIFT))


def life(scenario: Scenario, number: int, *, days: int, seed: int) -> dict[str, Cell]:
    """One device's, under each of ``TRAINING``: the same rows, so that only training differs."""
    rng = np.random.default_rng([seed, SCENARIO_SEEDS[scenario.dependence], scenario.rows,
                                 scenario.features, number])  # fmt: skip
    stream = Stream(scenario, rng)
    bare = stream.prepared()
    training = stream.draw(bare, max(TRAINING.values()))
    counted = [training.counts(bare, place) for place in range(len(training))]
    lives = {
        name: Life(learning.learnt(bare, counted[-windows:], InTime(scenario.rows, 300.0)), windows)
        for name, windows in TRAINING.items()
    }
    for day in range(days):
        drawn = stream.draw(bare, WINDOWS_PER_DAY)
        for each in lives.values():
            each.day(day, drawn)
    return {name: each.cell for name, each in lives.items()}


def row(scenario: Scenario, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """The scenario's row in the results."""
    return asdict(scenario) | {"trained": {name: cell.row() for name, cell in cells.items()}}


def _delay(monitor: ChartMonitor, trained: Baseline, drawn: Drawn, shift: float) -> int:
    """Windows until a shift is told; one more than there are when it isn't."""
    shifted = drawn.shifted(trained, shift)
    for window in range(len(drawn)):
        found = monitor.feed(shifted.summary(trained, window))
        if any(finding.state == "opened" for finding in found):
            return window + 1
    return len(drawn) + 1
