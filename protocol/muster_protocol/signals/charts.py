"""Control charts on a window's vector: how far from normal, by what limit, and whose doing.

Three kinds, all linear in the vector c_t (a window's deviation from what is normal):

- *innovations*: what a window brings beyond those before it, as residual charts of autocorrelated
  processes do (Alwan and Roberts 1988). Either c_t − φ·c_{t−1}, φ being the lag-1 regression less
  its small-sample bias (Marriott and Pope 1954, Kendall 1954); or, where sampling noise lies over a
  level that wanders, c_t less its forecast by Kalman's filter (1960) of an AR(1) level in noise,
  when training shows it to foretell better (Schwarz 1978);
- *levels*, a multivariate EWMA (Lowry, Woodall, Champ and Rigdon 1992), exact from the first
  window on: small shifts that last;
- the *largest* single deviation of either: one feature among many.

The others are tested together by Hotelling's T² with a correlation shrunk to the identity
(Schäfer and Strimmer 2005), kept as its leading eigenvectors. The limit is not that of a normal
distribution: log(T²/dimension) of training windows, each block scored by a fit on the others
(time-ordered blocks: Burman, Chow and Nolan 1994), and a prediction limit of Student's t above its
median, with as many degrees of freedom as the windows are worth independent ones.

The logarithm of a spread of few rows has a long tail below, which no such limit foretells: spreads
that fall are measured by the cube root of their variance (Wilson and Hilferty 1931, ``evened``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.calibration import independent_windows
from muster_protocol.signals.distributions import student_quantile
from muster_protocol.signals.timeline import (
    AXES_MAX,
    WARMING_WINDOWS,
    Chart,
    ChartFile,
    Flags,
    packed,
)

Doubles = NDArray[np.float64]
CUBE_ROOT = 2 / 3
"""Power of a standard deviation that is the cube root of its variance."""
CENTERINGS = 4
"""Rounds in which a mean of evened deviations is found: each takes off what is left of it."""
PHI_MAX = 0.99
SLOW_CARRIES, GAINS = (0.9, 0.97, PHI_MAX), (0.6, 0.4, 0.25, 0.15, 0.08)
"""Levels in noise that are tried: the best is seldom far from one of them."""
BLOCKS_MAX = 5
BLOCK_WINDOWS_MIN = 8
WEIGHT_MIN = 1e-3
STATISTIC_MIN = 1e-12
SCALE_MIN = 1e-3
LASTING_ERRORS = 2.0
"""Sampling errors of an independent signal's lag-1 regression, from which on a signal lasts by
itself. A running mean of others lasts, too, but is related as its windows are, however long."""
FREEDOM_MIN = 3.0
"""With fewer degrees of freedom, Student's t puts a limit for one window in many thousands farther
off than anything that happens."""
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
    Plan(1.0, largest=True),
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


def evened(spreads: Flags, off: Doubles) -> Doubles:
    """Deviations from the mean [..., numbers] with tails that are no longer than a normal one's.

    The variance of n normal rows is a chi-square one, whose cube root is all but normal (Wilson and
    Hilferty 1931); its logarithm, by which ``spreads`` come, has a longer tail below: at 50 rows
    5.3 standard deviations are near thirty times as likely as of a normal number. Spreads that
    fall are counted by the cube root, in units in which both begin alike. Spreads that rise stay
    logarithms, whose tail above is the shorter one: real spreads differ by factors.
    """
    fallen = np.expm1(CUBE_ROOT * np.minimum(off, 0.0)) / CUBE_ROOT
    return np.where(spreads & (off < 0), fallen, off)


def follow(chart: Chart, track: Track, c: Doubles) -> Doubles:
    """Take in the next (``evened``) deviation; the chart's own, over its spread in training."""
    smoothing = chart.file.smoothing
    if chart.innovations:
        e, track.last = _brought(chart, track.last, c, track.windows)
    else:
        track.last = smoothing * c + (1 - smoothing) * track.last
        e = track.last / np.sqrt(1 - (1 - smoothing) ** (2 * (track.windows + 1)))
    track.windows += 1
    return np.asarray(e / chart.spread)


def _brought(chart: Chart, last: Doubles, c: Doubles, windows: int) -> tuple[Doubles, Doubles]:
    """What a window brings beyond its forecast, in steady units, and the level that it leaves."""
    foretold = chart.carry * last
    off = c - foretold
    if windows >= WARMING_WINDOWS:
        return off, foretold + chart.gain * off
    gains, variances = chart.warming
    return off / np.sqrt(variances[windows]), foretold + gains[windows] * off


def statistic(chart: Chart, e: Doubles) -> float:
    """log(T²/dimension), or log of the largest squared deviation."""
    if chart.file.largest:
        value = float(np.square(e).max(initial=0.0))
    else:
        y = chart.axes @ e
        rest = max(float(e @ e) - float(y @ y), 0.0) * float(chart.inverse[-1])
        value = (float(np.square(y) @ chart.inverse[:-1]) + rest) / len(e)
    return math.log(max(value, STATISTIC_MIN))


def statistics(chart: Chart, e: Doubles) -> Doubles:
    """``statistic`` of many deviations [windows, numbers]."""
    if chart.file.largest:
        value = np.square(e).max(axis=1, initial=0.0)
    else:
        y = e @ chart.axes.T
        rest = np.maximum(np.einsum("ij,ij->i", e, e) - np.einsum("ij,ij->i", y, y), 0.0)
        value = (np.square(y) @ chart.inverse[:-1] + rest * chart.inverse[-1]) / e.shape[1]
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


def limits(
    watching: Sequence[Chart], chance: float, chance_of_means: float | None = None
) -> list[float]:
    """What each chart's statistic must exceed, so that any of them does with ``chance`` in a window
    when nothing is wrong (charts of running means with ``chance_of_means``, None: the same).
    Infinite for a chart that too little stands behind: the others share.
    """
    able = sum(chart.file.freedom >= FREEDOM_MIN for chart in watching)
    means = chance if chance_of_means is None else chance_of_means
    return [
        _limit(chart, (chance if chart.innovations else means) / able)
        if chart.file.freedom >= FREEDOM_MIN
        else math.inf
        for chart in watching
    ]


def _limit(chart: Chart, chance: float) -> float:
    freedom = chart.file.freedom
    quantile = student_quantile(2 * chance, freedom)
    foretold = chart.file.center + quantile * chart.file.scale * np.sqrt(1 + 1 / freedom)
    return max(chart.file.top, float(foretold), _least_limit(chart, chance))


def _least_limit(chart: Chart, chance: float) -> float:
    """What the largest of so many normal numbers exceeds with ``chance``, each over a spread known
    with the chart's degrees of freedom (Student 1908, shared out as Bonferroni 1936 says).

    The largest of many hardly varies on most days: alone, its upper half foretells rare days as
    too tame."""
    if not chart.file.largest or not len(chart.mean):
        return -math.inf
    return 2 * math.log(student_quantile(chance / len(chart.mean), chart.file.freedom))


def fit(plan: Plan, x: Doubles, floor: Doubles, spreads: Flags | None = None) -> Chart:
    """Fit on training windows [windows, numbers] in time order.

    ``floor``: least standard deviations, ``spreads``: which are logarithms of spreads, [numbers].
    """
    spreads = np.zeros(x.shape[1], np.bool_) if spreads is None else spreads
    chart = _fitted(plan, x, floor, spreads)
    windows = len(x)
    blocks = max(2, min(BLOCKS_MAX, windows // BLOCK_WINDOWS_MIN))
    cuts = np.linspace(0, windows, blocks + 1).astype(int).tolist()
    scored = np.empty(windows)
    for begin, end in pairwise(cuts):
        others = _fitted(plan, np.concatenate([x[:begin], x[end:]]), floor, spreads)
        scored[begin:end] = scores(others, x[begin:end])
    center = float(np.median(scored))
    above = scored[scored > center] - center
    keep = (1 - plan.smoothing) ** 2
    worth = min(
        windows * (1 - keep) / (1 + keep),
        float(independent_windows(scored[:, None], 1)[0]),
        _worth_of_spreads(chart, x) if plan.largest else math.inf,
    )
    file = _filed(
        plan, chart, center=center,
        scale=max(float(np.sqrt(np.square(above).mean())) if len(above) else 0.0, SCALE_MIN),
        freedom=max(1.0, worth - 1), top=float(scored.max()),
    )  # fmt: skip
    return replace(chart, file=file)


def _worth_of_spreads(chart: Chart, x: Doubles) -> float:
    """Independent windows behind the spread that is known least.

    The largest deviation is one number's, over its own spread. A running mean's squares resemble
    each other for as long as the signal wanders (Bayley and Hammersley 1946), however often the
    largest is another number's. What windows bring beyond their forecast does not: all count there.
    """
    if chart.innovations or not len(chart.mean):
        return math.inf
    squared = np.square(carried(_deviations(chart, x)))
    return float((len(x) * (1 - squared) / (1 + squared)).min())


def _middle(x: Doubles, spreads: Flags) -> Doubles:
    """[numbers]: from where evened deviations of [windows, numbers] add up to (nearly) nothing."""
    mean = x.mean(axis=0)
    for _ in range(CENTERINGS):
        mean[spreads] += evened(spreads, x - mean)[:, spreads].mean(axis=0)
    return np.asarray(mean)


def _fitted(plan: Plan, x: Doubles, floor: Doubles, spreads: Flags) -> Chart:
    """A chart without its limit."""
    mean = _middle(x, spreads)
    c = evened(spreads, x - mean)
    ones, none = np.ones(len(mean)), np.zeros((0, len(mean)))
    carry, gain = dynamics(c) if plan.smoothing == 1.0 else (np.zeros(len(mean)), ones)
    bare = Chart(_EMPTY, mean, carry, ones, none, np.ones(1), gain, spreads)
    rough = replace(bare, file=_filed(plan, bare))
    e = _deviations(rough, x)
    spread = np.maximum(e.std(axis=0, ddof=1), floor)
    lasting = np.where(carried(c) > LASTING_ERRORS / np.sqrt(len(c)), carried(e), 0.0)
    axes, weights = _shrunk_axes((e - e.mean(axis=0)) / spread, lasting)
    return replace(rough, spread=spread, axes=axes, weights=weights)


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
        gain=packed(chart.gain) if plan.smoothing == 1.0 and (chart.gain < 1).any() else b"",
        falling="cube root",
    )


def carried(x: Doubles) -> Doubles:
    """[numbers]: lag-1 regression of [windows, numbers], less its bias in small samples."""
    c = x - x.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.nan_to_num((c[1:] * c[:-1]).sum(axis=0) / np.square(c).sum(axis=0))
    return np.asarray(np.clip(raw + (1 + 3 * raw) / len(x), 0.0, PHI_MAX))


def dynamics(x: Doubles) -> tuple[Doubles, Doubles]:
    """[numbers] each, of [windows, numbers]: what is carried over from window to window, and how
    much of what a window brings is part of that."""
    c = x - x.mean(axis=0)
    carry, gain = carried(x), np.ones(x.shape[1])
    least = np.square(c[1:] - carry * c[:-1]).mean(axis=0)
    least *= np.exp(-2 * np.log(len(x)) / len(x))
    slow, part = np.array([*product(SLOW_CARRIES, GAINS)]).T[:, :, None]
    level, squares = np.zeros((len(slow), x.shape[1])), np.zeros((len(slow), x.shape[1]))
    for now in c:
        off = now - slow * level
        squares += np.square(off)
        level = slow * level + part * off
    errors = (squares - np.square(c[0])) / (len(c) - 1)
    best = errors.argmin(axis=0)
    better = errors.min(axis=0, initial=np.inf) < least
    carry[better], gain[better] = slow[best[better], 0], part[best[better], 0]
    return carry, gain


def _deviations(chart: Chart, x: Doubles) -> Doubles:
    """``follow`` over windows in a row, many at once."""
    c = evened(chart.evened, x - chart.mean)
    if chart.innovations:
        level, e = np.zeros(c.shape[1]), np.empty_like(c)
        for window, now in enumerate(c):
            e[window], level = _brought(chart, level, now, window)
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


def _shrunk_axes(z: Doubles, lasting: Doubles) -> tuple[Doubles, Doubles]:
    """Leading eigenvectors [axes, numbers] of the correlation of standardised z [windows, numbers],
    shrunk to the identity as Schäfer and Strimmer (2005, table 1, target D) say, and eigenvalues:
    of each axis, then the mean of all others. Signals that last (``lasting``: each one's lag-1
    correlation, 0 where it doesn't) say less of how they are related than independent windows do
    (Bartlett 1946)."""
    windows, numbers = z.shape
    gram = z.T @ z
    correlation = gram / (windows - 1)
    varying = windows / (windows - 1) ** 3 * (np.square(z).T @ np.square(z) - gram**2 / windows)
    together = np.outer(lasting, lasting)
    varying *= (1 + together) / (1 - together)
    apart = ~np.eye(numbers, dtype=np.bool_)
    power = float(np.square(correlation[apart]).sum())
    share = min(max(float(varying[apart].sum()) / power, 0.0), 1.0) if power > 0 else 1.0
    _, singular, vectors = np.linalg.svd(z / np.sqrt(windows - 1), full_matrices=False)
    axes = min(AXES_MAX, len(singular))
    weights = (1 - share) * np.square(singular[:axes]) + share
    total = (1 - share) * float(np.trace(correlation)) + share * numbers
    rest = (total - weights.sum()) / (numbers - axes) if numbers > axes else 1.0
    return vectors[:axes], np.maximum(np.append(weights, rest), WEIGHT_MIN)
