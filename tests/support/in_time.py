"""A device whose baseline knows training in time: a sensor each, and what may happen to them."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import binning, features, learning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_monitor import ChartMonitor
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.rule import DriftFinding
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.messages import Stamp

Rows = NDArray[np.float32]
Change = Callable[[Rows], None]
"""Changes a window's rows [rows, 4] in place."""
NAMES = ("temperature", "pressure", "flow", "current")
ROWS = 20
TRAINING_WINDOWS = 150
MEAN = np.array([90.0, 6.0, 12.0, 3.0])
STD = np.array([1.5, 0.1, 0.5, 0.2])
SCALE = np.float32(STD)
_STAMP = Stamp(b"", 0.0, 0.0, "unknown")


def rows(rng: np.random.Generator, count: int) -> Rows:
    """Independent in time; current follows flow."""
    z = rng.normal(size=(count, len(NAMES)))
    z[:, 3] = 0.9 * z[:, 2] + np.sqrt(1 - 0.9**2) * z[:, 3]
    return np.asarray(MEAN + STD * z, np.float32)


@lru_cache
def fitted(seed: int = 0, windows: int = TRAINING_WINDOWS) -> Baseline:
    x = rows(np.random.default_rng(seed), windows * ROWS)
    watched = features.elements("x", NAMES)
    return learning.fit({"x": x}, watched, InTime(ROWS, window_seconds=300.0))


def window(baseline: Baseline, x: Rows, *, windows: int = 1) -> Summary:
    counted = binning.count(baseline, {"x": x})
    return Summary("m", "1", "00" * 32, _STAMP, _STAMP, windows=windows, features=counted)


class Machine:
    """Draws windows and feeds them to a monitor."""

    def __init__(self, monitor: ChartMonitor, *, seed: int = 1, rows: int = ROWS) -> None:
        self.monitor = monitor
        self._rng = np.random.default_rng(seed)
        self._rows = rows

    def draw(self, change: Change | None = None) -> Summary:
        x = rows(self._rng, self._rows)
        if change is not None:
            change(x)
        return window(self.monitor.baseline, x)

    def run(self, windows: int, change: Change | None = None) -> list[list[DriftFinding]]:
        return [self.monitor.feed(self.draw(change)) for _ in range(windows)]

    def until_opened(
        self, change: Change, *, within: int, feature: str = NAMES[0]
    ) -> tuple[int, DriftFinding]:
        """Windows until a finding of ``feature`` opens, and that finding."""
        for number in range(1, within + 1):
            for finding in opened([self.monitor.feed(self.draw(change))]):
                if finding.feature == feature:
                    return number, finding
        raise AssertionError(f"nothing was found of {feature} in {within} windows")


def opened(findings: Iterable[Iterable[DriftFinding]]) -> list[DriftFinding]:
    return [finding for some in findings for finding in some if finding.state == "opened"]


def moved(place: int, sds: float) -> Change:
    def change(x: Rows) -> None:
        x[:, place] += np.float32(sds) * SCALE[place]

    return change
