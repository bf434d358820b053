"""What devices see: windows of counts drawn for simulated devices, without keeping rows.

A scenario is (dependence, rows per window, features). Features are standard normal in training:

- ``iid``: rows are independent;
- ``ar``: rows follow AR(1) with coefficient 0.9, so that n rows are worth about n/19; they are read
  with a resolution of 1/1024 standard deviation, so that a table finds their bins exactly, and
  their noise is one of 65,536 equally likely normal quantiles, drawn in a third of the time;
- ``weak``: the same with coefficient 0.5, so that n rows are worth n/3;
- ``wander``: independent rows whose mean wanders (Ornstein–Uhlenbeck, standard deviation 0.25,
  six hours), as it did in training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special

from muster_protocol.signals import baseline, features
from muster_protocol.signals.baseline import NUMERIC_BINS, Baseline

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
TRAINING_ROWS = 50_000
RHO = {"ar": 0.9, "weak": 0.5}
"""Coefficient of AR(1) by dependence."""
WANDER_SD = 0.25
WANDER_WINDOWS = 72
LEVELS = 1024
"""Steps per standard deviation in which autocorrelated rows are read."""
_MIDDLE = 32_768
_QUANTILES = special.ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
_NOISE = (_QUANTILES / _QUANTILES.std()).astype(np.float32)
_ROWS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Scenario:
    dependence: str
    rows: int
    features: int

    def __str__(self) -> str:
        return f"{self.dependence}, n = {self.rows}, {self.features} features"


def trained(scenario: Scenario, rng: np.random.Generator) -> Baseline:
    count = scenario.features
    wandered = WANDER_SD if scenario.dependence == "wander" else 0.0
    x = rng.normal(0, sqrt(1 + wandered**2), size=(TRAINING_ROWS, count))
    if scenario.dependence in RHO:
        x = np.floor(x * LEVELS + 0.5) / LEVELS
    return baseline.fit({"x": x.astype(np.float32)}, features.elements("x", count))


class Windows:
    """Draws the windows of one device in order of time; ``shift`` moves its first feature."""

    def __init__(self, scenario: Scenario, fitted: Baseline, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._rng = rng
        self._edges = fitted.edges.astype(np.float64)
        self._level = rng.normal(size=scenario.features)
        self._mean = rng.normal(0, WANDER_SD, scenario.features)

    def draw(self, windows: int, shift: float = 0.0) -> Counts:
        """[windows, features, bins]; ``shift`` in standard deviations."""
        moved = np.zeros(self._scenario.features)
        moved[0] = shift
        if self._scenario.dependence in RHO:
            return self._rows(windows, moved)
        return self._shares(windows, moved)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is drawn inside happens to a twin of the device; this one goes on from before."""
        level, mean = self._level.copy(), self._mean.copy()
        yield
        self._level, self._mean = level, mean

    def _shares(self, windows: int, moved: Doubles) -> Counts:
        """Independent rows: counts are multinomial."""
        means = np.zeros((windows, len(moved)))
        if self._scenario.dependence == "wander":
            keep = exp(-1 / WANDER_WINDOWS)
            kicks = self._rng.normal(0, WANDER_SD * sqrt(1 - keep**2), means.shape)
            for window, kick in enumerate(kicks):
                self._mean = keep * self._mean + kick
                means[window] = self._mean
        below = special.ndtr(self._edges[None] - (means + moved)[:, :, None])
        shares = np.diff(below, prepend=0.0, append=1.0, axis=2)
        return self._rng.multinomial(self._scenario.rows, shares)

    def _rows(self, windows: int, moved: Doubles) -> Counts:
        """Rows one by one, feature by feature, as many at a time as a cache holds."""
        rows, rho = self._scenario.rows, RHO[self._scenario.dependence]
        counts = np.empty((windows, len(moved), NUMERIC_BINS), np.int64)
        gain, feedback = np.float32([sqrt(1 - rho**2)]), np.float32([1, -rho])
        values = (np.arange(2 * _MIDDLE) - _MIDDLE) / LEVELS
        some = max(1, _ROWS_AT_ONCE // rows)
        offsets = np.arange(some).repeat(rows) * NUMERIC_BINS
        for place, edges in enumerate(self._edges):
            table = np.searchsorted(edges, values + moved[place], side="right").astype(np.uint8)
            state = np.float32([rho * self._level[place]])
            for begin in range(0, windows, some):
                now = min(some, windows - begin)
                fresh = _NOISE[np.frombuffer(self._rng.bytes(2 * now * rows), np.uint16)]
                path, state = signal.lfilter(gain, feedback, fresh, zi=state)
                path *= LEVELS
                path += _MIDDLE + 0.5
                bins = table[path.astype(np.uint16)] + offsets[: now * rows]
                tally = np.bincount(bins, minlength=now * NUMERIC_BINS)
                counts[begin : begin + now, place] = tally.reshape(now, NUMERIC_BINS)
            self._level[place] = state[0] / rho
        return counts
