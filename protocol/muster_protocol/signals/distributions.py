"""Tails of the distributions that drift tests need, so that a device needs no SciPy."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
_TINY = 1e-300
_STEPS_MAX = 500
FREEDOM_RATIO = 1.25
"""Between neighbours of the grid on which quantiles are tabulated, from ½ to about 1000."""


def chi_square_tail(value: float, freedom: float) -> float:
    """P(X ≥ value) for a chi-square with ``freedom`` degrees of freedom."""
    if value <= 0:
        return 1.0
    a, x = freedom / 2, value / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1.0 - scale * _gamma_series(a, x) if x < a + 1 else scale * _gamma_fraction(a, x)


def student_tail(value: float, freedom: float) -> float:
    """P(|T| ≥ value) for Student's t."""
    if value <= 0:
        return 1.0
    return _beta_share(freedom / 2, 0.5, freedom / (freedom + value * value))


@lru_cache(maxsize=256)
def student_quantile(alpha: float, freedom: float) -> float:
    """The value that |T| exceeds with probability ``alpha``; infinite below half a degree."""
    if freedom < 0.5:
        return math.inf
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > alpha:
        low, high = high, high * 2
        if high > 1e12:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        if student_tail(middle, freedom) > alpha:
            low = middle
        else:
            high = middle
    return high


def student_quantiles(alpha: float, freedom: Doubles) -> Doubles:
    """``student_quantile`` for many, degrees of freedom rounded down to a grid."""
    grid, quantiles = _student_table(alpha)
    return np.asarray(quantiles[np.searchsorted(grid, freedom, side="right")])


@lru_cache(maxsize=64)
def _student_table(alpha: float) -> tuple[Doubles, Doubles]:
    grid = np.asarray(FREEDOM_RATIO ** np.arange(-3.0, 32.0), np.float64)
    quantiles = [math.inf, *(student_quantile(alpha, freedom) for freedom in grid.tolist())]
    return grid, np.array(quantiles)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, _STEPS_MAX):
        term *= x / (a + n)
        total += term
        if term < total * 1e-16:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Lentz's continued fraction of the upper incomplete gamma function."""
    b = x + 1 - a
    c = 1 / _TINY
    d = 1 / b
    h = d
    for n in range(1, _STEPS_MAX):
        an = -n * (n - a)
        b += 2
        d = 1 / _nonzero(an * d + b)
        c = _nonzero(b + an / c)
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return h


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    if x < (a + 1) / (a + b + 2):
        return math.exp(log) * _beta_fraction(a, b, x) / a
    return 1 - math.exp(log) * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's continued fraction of the incomplete beta function."""
    c = 1.0
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, _STEPS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _nonzero(1 + even * d)
        c = _nonzero(1 + even / c)
        h *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / _nonzero(1 + odd * d)
        c = _nonzero(1 + odd / c)
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return h


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
