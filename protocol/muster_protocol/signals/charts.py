"""Control charts on a window's vector: how far from normal, by what limit, and whose doing.

Three kinds, all linear in the vector c_t (a window's deviation from what is normal):

- *innovations*, c_t − φ·c_{t−1}: what a window brings beyond the one before it, as residual charts
  of autocorrelated processes do (Alwan and Roberts 1988); φ is the lag-1 regression less its
  small-sample bias (Marriott and Pope 1954, Kendall 1954);
- *levels*, a multivariate EWMA (Lowry, Woodall, Champ and Rigdon 1992), exact from the first
  window on: small shifts that last;
- the *largest* single deviation of such an EWMA: one feature among many.

The first two are tested together by Hotelling's T² with a correlation shrunk to the identity
(Schäfer and Strimmer 2005), kept as its leading eigenvectors. The limit is not that of a normal
distribution: log(T²/dimension) of training windows, each block scored by a fit on the others
(time-ordered blocks: Burman, Chow and Nolan 1994), and a prediction limit of Student's t above its
median, with as many degrees of freedom as the windows are worth independent ones.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.calibration import independent_windows
from muster_protocol.signals.distributions import student_quantile
from muster_protocol.signals.timeline import AXES_MAX, Chart, ChartFile, packed

Doubles = NDArray[np.float64]
PHI_MAX = 0.99
BLOCKS_MAX = 5
BLOCK_WINDOWS_MIN = 8
WEIGHT_MIN = 1e-3
STATISTIC_MIN = 1e-12
CALM = 1e-6
"""No deviation is taken for smaller than so much of a training standard deviation."""


@dataclass(frozen=True)
class Plan:
    """Which chart to fit."""

    smoothing: float
    largest: bool = False
    relations: bool = False


PLANS = (
    *(
        Plan(smoothing, relations=relations)
        for relations in (False, True)
        for smoothing in (1.0, 0.3, 0.07)
    ),
    Plan(0.3, largest=True),
)
"""A jump at once, a shift of a few windows, one of a shift's length; measured in ``bench.real``."""


@dataclass(eq=False)
class Track:
    """Where a chart stands: O(numbers) memory."""

    last: Doubles
    """The last deviation (innovations) or the running mean (levels)."""
    windows: int = 0

    @classmethod
    def fresh(cls, chart: Chart) -> "Track":
        """A chart's averages before the first window: no deviation."""
        return cls(np.zeros(len(chart.mean)))


def follow(chart: Chart, track: Track, c: Doubles) -> Doubles:
    """Take in the next deviation; the chart's own, over its spread in training."""
    smoothing = chart.file.smoothing
    if chart.innovations:
        carried = chart.carry
        e = c - carried * track.last if track.windows else c * np.sqrt(1 - carried**2)
        track.last = c
    else:
        track.last = smoothing * c + (1 - smoothing) * track.last
        e = track.last / np.sqrt(1 - (1 - smoothing) ** (2 * (track.windows + 1)))
    track.windows += 1
    return np.asarray(e / chart.spread)


def statistic(chart: Chart, e: Doubles) -> float:
    """log(T²/dimension), or log of the largest squared deviation."""
    return float(statistics(chart, e[None])[0])


def statistics(chart: Chart, e: Doubles) -> Doubles:
    """``statistic`` of many deviations [windows, numbers]."""
    if chart.file.largest:
        value = np.square(e).max(axis=1, initial=0.0)
    else:
        y = e @ chart.axes.T
        rest = np.maximum(np.einsum("ij,ij->i", e, e) - np.einsum("ij,ij->i", y, y), 0.0)
        value = (np.square(y) @ (1 / chart.weights[:-1]) + rest / chart.weights[-1]) / e.shape[1]
    return np.asarray(np.log(np.maximum(value, STATISTIC_MIN)))


def contributions(chart: Chart, e: Doubles) -> Doubles:
    """[numbers]: each number's part of the statistic; they add up to it (T² = e·R⁻¹e)."""
    if chart.file.largest:
        return np.square(e)
    y = chart.axes @ e
    inverse = (
        chart.axes.T @ (y / chart.weights[:-1] - y / chart.weights[-1]) + e / chart.weights[-1]
    )
    return np.asarray(e * inverse)


def limit(chart: Chart, chance: float) -> float:
    """What the statistic exceeds with ``chance`` in a window when nothing is wrong."""
    freedom = chart.file.freedom
    quantile = student_quantile(2 * chance, freedom)
    foretold = chart.file.center + quantile * chart.file.scale * np.sqrt(1 + 1 / freedom)
    return max(chart.file.top, float(foretold))


def fit(plan: Plan, x: Doubles, floor: Doubles) -> Chart:
    """Fit on training windows [windows, numbers] in time order; ``floor``: least spreads."""
    chart = _fitted(plan, x, floor)
    windows = len(x)
    blocks = max(2, min(BLOCKS_MAX, windows // BLOCK_WINDOWS_MIN))
    cuts = np.linspace(0, windows, blocks + 1).astype(int).tolist()
    scored = np.empty(windows)
    for begin, end in pairwise(cuts):
        others = _fitted(plan, np.concatenate([x[:begin], x[end:]]), floor)
        scored[begin:end] = scores(others, x[begin:end])
    center = float(np.median(scored))
    above = scored[scored > center] - center
    keep = (1 - plan.smoothing) ** 2
    worth = min(
        windows * (1 - keep) / (1 + keep), float(independent_windows(scored[:, None], 1)[0])
    )
    file = _filed(
        plan, chart, center=center,
        scale=max(float(np.sqrt(np.square(above).mean())) if len(above) else 0.0, 1e-3),
        freedom=max(1.0, worth - 1), top=float(scored.max()),
    )  # fmt: skip
    return Chart(file, chart.mean, chart.carry, chart.spread, chart.axes, chart.weights)


def _fitted(plan: Plan, x: Doubles, floor: Doubles) -> Chart:
    """A chart without its limit."""
    mean = x.mean(axis=0)
    carry = carried(x) if plan.smoothing == 1.0 else np.zeros(len(mean))
    ones, none = np.ones(len(mean)), np.zeros((0, len(mean)))
    rough = _filed(plan, Chart(_EMPTY, mean, carry, ones, none, np.ones(1)))
    e = _deviations(Chart(rough, mean, carry, ones, none, np.ones(1)), x)
    spread = np.maximum(e.std(axis=0, ddof=1), floor)
    axes, weights = _shrunk_axes((e - e.mean(axis=0)) / spread)
    return Chart(rough, mean, carry, spread, axes, weights)


_EMPTY = ChartFile(False, 1.0, False, b"", b"", b"", b"", b"", 0.0, 0.0, 1.0, 0.0)  # noqa: FBT003 - fields in their order on the wire


def _filed(
    plan: Plan,
    chart: Chart,
    *,
    center: float = 0.0,
    scale: float = 1.0,
    freedom: float = 1.0,
    top: float = 0.0,
) -> ChartFile:
    return ChartFile(
        relations=plan.relations,
        smoothing=plan.smoothing,
        largest=plan.largest,
        mean=packed(chart.mean),
        carry=packed(chart.carry) if plan.smoothing == 1.0 else b"",
        spread=packed(chart.spread),
        axes=b"" if plan.largest else packed(chart.axes),
        weights=packed(np.ones(1) if plan.largest else chart.weights),
        center=center,
        scale=scale,
        freedom=freedom,
        top=top,
    )


def carried(x: Doubles) -> Doubles:
    """[numbers]: lag-1 regression of [windows, numbers], less its bias in small samples."""
    c = x - x.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.nan_to_num((c[1:] * c[:-1]).sum(axis=0) / np.square(c).sum(axis=0))
    return np.asarray(np.clip(raw + (1 + 3 * raw) / len(x), 0.0, PHI_MAX))


def _deviations(chart: Chart, x: Doubles) -> Doubles:
    """``follow`` over windows in a row, many at once."""
    c = x - chart.mean
    if chart.innovations:
        e = c.copy()
        e[1:] -= chart.carry * c[:-1]
        e[0] *= np.sqrt(1 - np.square(chart.carry))
        return np.asarray(e / chart.spread)
    smoothing, last, e = chart.file.smoothing, np.zeros(c.shape[1]), np.empty_like(c)
    for window, now in enumerate(c * smoothing):
        last = now + (1 - smoothing) * last
        e[window] = last
    begun = np.sqrt(1 - (1 - smoothing) ** (2.0 * np.arange(1, len(c) + 1)))
    return np.asarray(e / begun[:, None] / chart.spread)


def scores(chart: Chart, x: Doubles) -> Doubles:
    """[windows]: the statistic of windows in a row, from a chart's beginning."""
    return statistics(chart, _deviations(chart, x))


def _shrunk_axes(z: Doubles) -> tuple[Doubles, Doubles]:
    """Leading eigenvectors [axes, numbers] of the correlation of standardised z [windows, numbers],
    shrunk to the identity as Schäfer and Strimmer (2005, table 1, target D) say, and eigenvalues:
    of each axis, then the mean of all others."""
    windows, numbers = z.shape
    gram = z.T @ z
    correlation = gram / (windows - 1)
    varying = windows / (windows - 1) ** 3 * (np.square(z).T @ np.square(z) - gram**2 / windows)
    apart = ~np.eye(numbers, dtype=np.bool_)
    power = float(np.square(correlation[apart]).sum())
    share = min(max(float(varying[apart].sum()) / power, 0.0), 1.0) if power > 0 else 1.0
    _, singular, vectors = np.linalg.svd(z / np.sqrt(windows - 1), full_matrices=False)
    axes = min(AXES_MAX, len(singular))
    weights = (1 - share) * np.square(singular[:axes]) + share
    total = (1 - share) * float(np.trace(correlation)) + share * numbers
    rest = (total - weights.sum()) / (numbers - axes) if numbers > axes else 1.0
    return vectors[:axes], np.maximum(np.append(weights, rest), WEIGHT_MIN)
