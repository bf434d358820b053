"""Windows of simulated devices in order of time, drawn as the moments that the rule in time reads.

The dependences are those of ``signals_streams``; here a baseline is fitted on training windows in
order, not on shuffled rows. Of independent rows only sums are drawn, exactly as rows would have
them: means are normal, scatter matrices Wishart (Bartlett 1933). Rows that depend on each other are
drawn one by one. Bins and extremes are not drawn: no feature is ever clipped or stuck.
"""

from math import exp, sqrt

import numpy as np
from bench.signals_streams import RHO, WANDER_SD, WANDER_WINDOWS, Scenario
from numpy.typing import NDArray
from scipy import signal

from muster_protocol.signals import features, learning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.learning import InTime
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.messages import Stamp

Doubles = NDArray[np.float64]
PREPARED_ROWS = 20_000
ROWS_AT_ONCE = 1 << 14
_STAMP = Stamp(b"", 0.0, 0.0, "unknown")


class Drawn:
    """Moments of windows in a row."""

    def __init__(self, rows: int, total: Doubles, squares: Doubles, joint: Doubles) -> None:
        """[windows, features] sums and sums of squares, [2, windows, projections] the same of the
        projections."""
        self.rows = rows
        self.total, self.squares, self.joint = total, squares, joint

    def __len__(self) -> int:
        return len(self.total)

    def counts(self, trained: Baseline, window: int) -> FeatureCounts:
        size, width = len(trained), trained.width
        far = 4.0 + 0.5 * (window % 2)  # extremes that never repeat
        return FeatureCounts(
            trained, self.rows, np.zeros((size, width), np.int64), np.zeros(size, np.int64),
            self.total[window], self.squares[window], np.full(size, -far), np.full(size, far),
            self.joint[0, window], self.joint[1, window],
        )  # fmt: skip

    def summary(self, trained: Baseline, window: int) -> Summary:
        counted = self.counts(trained, window)
        return Summary("m", "1", "00" * 32, _STAMP, _STAMP, features=counted)

    def part(self, begin: int, end: int) -> "Drawn":
        return Drawn(
            self.rows, self.total[begin:end], self.squares[begin:end], self.joint[:, begin:end]
        )

    def shifted(self, trained: Baseline, shift: float) -> "Drawn":
        """The first feature is off by so much in every row."""
        total, squares, joint = self.total.copy(), self.squares.copy(), self.joint.copy()
        squares[:, 0] += 2 * shift * total[:, 0] + self.rows * shift**2
        total[:, 0] += self.rows * shift
        weights, _ = trained.joint
        off = shift * weights[:, 0].astype(np.float64)
        joint[1] += 2 * off * joint[0] + self.rows * off**2
        joint[0] += self.rows * off
        return Drawn(self.rows, total, squares, joint)


class Stream:
    """Draws a device's windows in order of time. Features are standard normal, unrelated."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._scenario, self._rng = scenario, rng
        self._level = rng.normal(size=scenario.features).astype(np.float32)
        self._mean = rng.normal(0, WANDER_SD, scenario.features)

    def prepared(self) -> Baseline:
        """Bins and projections from rows, before windows are counted."""
        scenario = self._scenario
        wandered = WANDER_SD if scenario.dependence == "wander" else 0.0
        shape = (PREPARED_ROWS, scenario.features)
        x = self._rng.normal(0, sqrt(1 + wandered**2), size=shape).astype(np.float32)
        named = features.elements("x", scenario.features)
        return learning.prepared({"x": x}, named, InTime(scenario.rows, 300.0))

    def draw(self, bare: Baseline, windows: int) -> Drawn:
        weights, offset = (part.astype(np.float64) for part in bare.joint)
        if self._scenario.dependence in RHO:
            total, squares, first, second = self._by_row(windows, weights)
        else:
            total, squares, first, second = self._by_window(windows, weights)
        n, mean = self._scenario.rows, bare.mean
        joint = np.stack([first - n * offset, second - 2 * offset * first + n * offset**2])
        return Drawn(n, total - n * mean, squares - 2 * mean * total + n * mean**2, joint)

    def _by_window(self, windows: int, weights: Doubles) -> tuple[Doubles, ...]:
        n, count = self._scenario.rows, self._scenario.features
        means = self._rng.normal(0, 1 / sqrt(n), (windows, count))
        if self._scenario.dependence == "wander":
            keep = exp(-1 / WANDER_WINDOWS)
            kicks = self._rng.normal(0, WANDER_SD * sqrt(1 - keep**2), (windows, count))
            wander, last = signal.lfilter(
                [1.0], [1, -keep], kicks, axis=0, zi=(keep * self._mean)[None]
            )
            means, self._mean = means + wander, last[0] / keep
        bartlett = np.tril(self._rng.normal(size=(windows, count, count)), -1)
        diagonal = np.arange(count)
        freedom = n - 1 - diagonal
        some = diagonal[freedom > 0]
        # As many features as rows, or more: the scatter has no more dimensions than it has rows.
        bartlett[:, :, len(some) :] = 0.0
        bartlett[:, some, some] = np.sqrt(self._rng.chisquare(freedom[some], (windows, len(some))))
        scatter = np.square(bartlett).sum(axis=2)
        projected = np.square(weights @ bartlett).sum(axis=2)
        first = n * means @ weights.T
        return n * means, scatter + n * np.square(means), first, projected + first**2 / n

    def _by_row(self, windows: int, weights: Doubles) -> tuple[Doubles, ...]:
        n, count = self._scenario.rows, self._scenario.features
        rho = RHO[self._scenario.dependence]
        gain, feedback = np.float32([sqrt(1 - rho**2)]), np.float32([1, -rho])
        narrow = weights.astype(np.float32)
        parts = []
        some = max(1, ROWS_AT_ONCE // n)
        for begin in range(0, windows, some):
            now = min(some, windows - begin)
            fresh = self._rng.standard_normal((count, now * n), np.float32)
            x, last = signal.lfilter(
                gain, feedback, fresh, axis=1, zi=np.float32(rho) * self._level[:, None]
            )
            self._level = last[:, 0] / np.float32(rho)
            y = narrow @ x
            parts.append([*_sums(x.reshape(count, now, n)), *_sums(y.reshape(len(narrow), now, n))])
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _sums(x: NDArray[np.float32]) -> tuple[Doubles, Doubles]:
    """[windows, features] of [features, windows, rows]: sums, and sums of squares."""
    total = x.sum(axis=2, dtype=np.float64).T
    return total, np.einsum("ijk,ijk->ij", x, x).T.astype(np.float64)
