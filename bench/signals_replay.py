"""A calibrated drift monitor run over many windows at once: the same findings, hundreds of times
faster than window by window. A test holds it against ``DriftMonitor`` itself.

Only for devices whose features are all calibrated, numeric and never missing, and whose windows
all have the same number of rows.
"""

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import monitor_state
from muster_protocol.signals.calibration import LAGS, Fit, LevelFit, transformed
from muster_protocol.signals.divergence import pooled, pooled_live, psi_corrected
from muster_protocol.signals.drift import SCALES, DriftMonitor
from muster_protocol.signals.judge import Judge
from muster_protocol.signals.monitor_state import Status
from muster_protocol.signals.scores import Scores, smooth_shares

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Replay:
    """Goes on where the monitor stands, which itself is left alone."""

    def __init__(self, monitor: DriftMonitor) -> None:
        fitted, rule = monitor.baseline, monitor.rule
        scores = Scores(fitted)
        state = monitor_state.decode(monitor.encode(), fitted, len(scores))
        assert state.calibration is not None, "a monitor that has not calibrated"
        assert (state.status == Status.CALIBRATED).all(), "a feature is not calibrated"
        self._baseline, self._scores, self._gate = fitted, scores, rule.effect
        self._alpha = rule.alpha(len(scores) * (len(SCALES) + 1))
        self._judge = Judge(scores, self._alpha)
        self._calibration = state.calibration
        self._reference = pooled(fitted, state.reference.counts)
        self._live = pooled_live(fitted)
        shares = smooth_shares(fitted, state.reference.counts)
        self._spread = scores.spread(shares, state.reference.rows, state.reference.nulls)
        self._recent = np.array([window.bins for window in state.recent])[1 - max(SCALES) :]
        self._lags = np.array(state.lags)
        quiet = state.quiet
        self.last = np.where(quiet >= 0, -1 - quiet, -(10**9))
        """Windows since each feature's last finding, before 0 being the first one replayed."""

    def feed(self, bins: Counts, *, aside: bool = False) -> Flags:
        """[windows, features]: findings. ``aside`` forgets the windows again."""
        past = len(self._recent)
        every = np.concatenate([self._recent, bins])
        flags = np.zeros(bins.shape[:2], np.bool_)
        total = np.cumsum(every, axis=0)
        total = np.concatenate([np.zeros_like(total[:1]), total])
        for place, scale in enumerate(SCALES):
            begin = past + 1 - scale
            merged = total[past + 1 :] - total[begin : begin + len(bins)]
            x, n = self._measure(merged)
            level = self._calibration.levels[place]
            self._mark(flags, merged, self._level(level, x, n))
            if scale == 1:
                y = np.concatenate([self._lags, transformed(x, self._scores.dispersion)])
                self._mark(flags, merged, self._innovation(self._calibration.innovation, y, n))
        if not aside:
            self._recent = every[1 - max(SCALES) :]
            self._lags = y[-LAGS:]
        return flags

    def _measure(self, bins: Counts) -> tuple[Doubles, Doubles]:
        nulls = np.zeros(bins.shape[:2], np.int64)
        return self._scores.measure(bins, nulls, bins[:, 0].sum(axis=1))

    def _level(self, level: LevelFit, x: Doubles, n: Doubles) -> Flags:
        deviation, own = level.judge(x, n, self._scores.dispersion, self._alpha)
        return self._exceeded(deviation, own, n[0])

    def _innovation(self, fit: Fit, y: Doubles, n: Doubles) -> Flags:
        windows = len(n)
        last = y[LAGS - 1 : LAGS - 1 + windows]
        before = np.mean([y[lag : lag + windows] for lag in range(LAGS - 1)], axis=0)
        deviation, own = fit.judge(y[LAGS:], last, before, n, self._alpha)
        return self._exceeded(deviation, own, n[0])

    def _exceeded(self, deviation: Doubles, own: Doubles, n: Doubles) -> Flags:
        up, down = (self._judge.floor(self._spread, side * np.ones_like(n), n) for side in (1, -1))
        floor = np.where(deviation < 0, down, up)
        return np.asarray(np.abs(deviation) > np.maximum(own, floor))

    def _mark(self, flags: Flags, bins: Counts, exceeded: Flags) -> None:
        """Findings are what exceeds its limit and matters."""
        exceeded = exceeded & ~self._scores.missing
        for window in np.flatnonzero(exceeded.any(axis=1)):
            moved = np.zeros(flags.shape[1], np.bool_)
            moved[self._scores.feature[exceeded[window]]] = True
            now = pooled(self._baseline, bins[window])
            flags[window] |= moved & (psi_corrected(now, self._reference, self._live) >= self._gate)


def openings(flags: Flags, last: NDArray[np.int64], begin: int, calm: int) -> Flags:
    """[windows]: whether any feature's alert opens; ``last`` is brought up to date.

    ``begin`` is the number of the first window; an alert closes after ``calm`` quiet windows.
    """
    opens = np.zeros(len(flags), np.bool_)
    for window, feature in np.argwhere(flags):
        number = begin + window
        opens[window] |= number - last[feature] > calm
        last[feature] = number
    return opens
