"""How far a mean over independent rows strays by sampling alone, whatever the shape of a row.

The tail of a mean of n rows is that of a normal at r = √(2·n·I(t)), where I is the large-deviation
rate of one row's distribution (the signed root of the saddlepoint approximation). Skew and rare
events are in I: a normal approximation would be wrong by orders of magnitude where alerts live.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
TILTS = np.geomspace(0.01, 80.0, 72)
"""Exponential tilts, in standard deviations, at which the rate is tabulated."""


def normal_quantile(alpha: float) -> float:
    """What a standard normal exceeds, on either side, with probability ``alpha``."""
    return -NormalDist().inv_cdf(alpha / 2)


@dataclass(frozen=True, eq=False)
class Spread:
    """One row's distribution of each score, learned from so many rows."""

    mean: Doubles
    variance: Doubles
    rows: Doubles
    _rates: Doubles
    """[sides, scores, tilts]: rate at each tilt, rising."""
    _strays: Doubles
    """[sides, scores, tilts]: how far from the mean that is."""

    @classmethod
    def of(cls, values: Doubles, shares: Doubles, rows: Doubles) -> "Spread":
        """``values`` [scores, width] that a row takes with probabilities ``shares``."""
        mean = np.einsum("sw,sw->s", values, shares)
        apart = np.where(shares > 0, values - mean[:, None], 0.0)
        variance = np.einsum("sw,sw->s", np.square(apart), shares)
        scale = np.sqrt(np.maximum(variance, 1e-300))
        rates, strays = [], []
        for side in (1.0, -1.0):
            tilts = TILTS / scale[:, None]
            exponents = tilts[:, :, None] * (side * apart)[:, None, :]
            top = exponents.max(axis=2, keepdims=True)
            tilted = np.exp(exponents - top) * shares[:, None, :]
            total = tilted.sum(axis=2)
            reached = (tilted * (side * apart)[:, None, :]).sum(axis=2) / total
            rates.append(tilts * reached - np.log(total) - top[:, :, 0])
            strays.append(reached)
        return cls(mean, variance, rows, np.array(rates), np.array(strays))

    def limits(self, deviation: Doubles, rows: Doubles, alpha: float) -> Doubles:
        """How far the mean of ``rows`` rows may be, on the side where ``deviation`` is.

        Infinite where even the most extreme rows would not be surprising enough.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            worth = 1 / (1 / rows + 1 / self.rows)
            wanted = np.square(normal_quantile(alpha)) / (2 * worth)
        down = (deviation < 0).astype(np.intp)
        every = np.arange(len(deviation))
        rates, strays = self._rates[down, every], self._strays[down, every]
        above = (rates < wanted[:, None]).sum(axis=1)
        last = rates.shape[1] - 1
        after = np.minimum(above, last)
        before = np.maximum(after - 1, 0)
        low, high = rates[every, before], rates[every, after]
        # Rates grow with the square of the stray: interpolate on their roots.
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (np.sqrt(wanted) - np.sqrt(low)) / (np.sqrt(high) - np.sqrt(low))
            first = strays[every, 0] * np.sqrt(wanted / rates[every, 0])
            between = strays[every, before] + part * (strays[every, after] - strays[every, before])
        limits = np.where(above == 0, first, between)
        return np.where((above > last) | ~np.isfinite(limits), np.inf, limits)
