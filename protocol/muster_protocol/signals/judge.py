"""How far each score may be from where it should be: the limits of one window's tests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.calibration import transformed
from muster_protocol.signals.distributions import student_quantiles
from muster_protocol.signals.monitor_state import Doubles, State, Status
from muster_protocol.signals.sampling import Spread
from muster_protocol.signals.scores import Scores


@dataclass(frozen=True, eq=False)
class Trial:
    """Deviations and limits at one scale, [scores]."""

    deviation: Doubles
    limit: Doubles
    rows: Doubles
    windows: int
    innovation: bool = False

    @property
    def exceeded(self) -> NDArray[np.bool_]:
        """Which tests lie outside their limit."""
        return np.asarray(np.abs(self.deviation) > self.limit)


class Judge:
    """Sets limits that each test exceeds by chance with probability ``alpha``."""

    def __init__(self, scores: Scores, alpha: float) -> None:
        self._scores = scores
        self._alpha = alpha

    def level(
        self, state: State, spread: Spread, place: int, scale: int, x: Doubles, n: Doubles
    ) -> Trial:
        """The level of ``scale`` merged windows, against the reference or the own normal.

        No limit is tighter than sampling error: that holds even where a calibration saw no
        movement at all.
        """
        calibrated = self._calibrated(state)
        if calibrated.all():
            deviation, limit = np.zeros_like(x), np.zeros_like(x)
        else:
            deviation, limit = self._from_reference(state, spread, scale, x, n)
        if state.calibration is not None and calibrated.any():
            level = state.calibration.levels[place]
            from_own, own = level.judge(x, n, self._scores.dispersion, self._alpha)
            floor = self.floor(spread, from_own, n)
            limit = np.where(calibrated, np.maximum(own, floor), limit)
            deviation = np.where(calibrated, from_own, deviation)
        return Trial(_finite(deviation), limit, n, scale)

    def innovation(self, state: State, spread: Spread, x: Doubles, n: Doubles) -> list[Trial]:
        """What the window brings beyond what those before it foretold; needs a calibration."""
        if state.calibration is None:
            return []
        fit = state.calibration.innovation
        last, before = state.lags[-1], np.mean(state.lags[:-1], axis=0)
        y = transformed(x, self._scores.dispersion)
        deviation, own = fit.judge(y, last, before, n, self._alpha)
        floor = self.floor(spread, deviation, n)
        limit = np.where(self._calibrated(state), np.maximum(own, floor), np.inf)
        return [Trial(_finite(deviation), limit, n, 1, innovation=True)]

    def floor(self, spread: Spread, deviation: Doubles, n: Doubles) -> Doubles:
        """What sampling alone allows a calibrated score, on the side where ``deviation`` is."""
        return spread.limits(deviation, n, self._alpha) * self._steps(spread)

    def _from_reference(
        self, state: State, spread: Spread, scale: int, x: Doubles, n: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Sampling error, widened where windows differ more than independent rows would."""
        known = state.independence.windows
        inflation = state.independence.inflation(spread.variance)
        center = spread.mean.copy()
        dispersion, location = self._scores.dispersion, self._scores.dispersion - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            # A variance about the window's own mean lacks what that mean itself varies.
            own = spread.variance[location] * inflation[location] / n[location]
            center[dispersion] -= np.minimum(own, center[dispersion])
            # Where rows depend on each other, merging may not make their mean any steadier.
            one_window = np.sqrt(spread.variance * inflation * scale / n)
            widened = one_window * np.sqrt(1 + 1 / known)
            widened = student_quantiles(self._alpha, known - 1) * widened
        deviation = x - center
        floor = spread.limits(deviation, n, self._alpha)
        return deviation, np.maximum(floor, np.where(inflation > 1, widened, 0.0))

    def _calibrated(self, state: State) -> NDArray[np.bool_]:
        return np.asarray((state.status == Status.CALIBRATED)[self._scores.feature])

    def _steps(self, spread: Spread) -> Doubles:
        """Derivative of the transform where the score should be: a cube root's for dispersions."""
        steps = np.ones(len(self._scores))
        at = np.maximum(spread.mean[self._scores.dispersion], 1e-12)
        steps[self._scores.dispersion] = np.cbrt(at) / (3 * at)
        return steps


def _finite(deviation: Doubles) -> Doubles:
    return np.where(np.isfinite(deviation), deviation, 0.0)
