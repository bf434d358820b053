"""Counting values against a baseline's bins: the part of a summary that grows with features.

``FeatureCounts`` is a plain sum over rows, so merging is addition: exact for counts, and for the
moments as good as float64. Arrays have one entry or row per feature of the baseline.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import EDGES, NUMERIC_BINS, Baseline, as_categories
from muster_protocol.signals.features import Floats, Tensors
from muster_protocol.wire.errors import ProtocolError

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
STEADY = 1e-9
"""A variance below so much of training's is that of a value that stands still."""
FLOAT32_MAX = np.finfo(np.float32).max
COMPARED_ROWS_MIN = 256
"""Below, a comparison costs more to begin than to make."""
COMPARED_VALUES_MAX = 48_000
"""Compared at a time: as much as a second-level cache holds."""


@dataclass(frozen=True, eq=False)
class FeatureCounts:
    """What a span of rows looked like, feature by feature."""

    baseline: Baseline
    rows: int
    """Rows looked at; a feature's values are the rows less its nulls."""
    bins: Counts
    """[features, baseline.width]"""
    nulls: Counts
    """[features]: values missing or not finite."""
    total: Doubles
    """[features]: sum of (value − baseline mean); 0 for what isn't numeric."""
    squares: Doubles
    """[features]: sum of (value − baseline mean)²."""
    low: Doubles
    """[features]: least value, +inf when there is none."""
    high: Doubles
    """[features]: greatest value, −inf when there is none."""
    joint_total: Doubles = field(default_factory=lambda: np.zeros(0))
    """[projections of the baseline's timeline]: sum over rows; see ``vectors.relations``."""
    joint_squares: Doubles = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def values(self) -> Counts:
        """[features]: values counted."""
        return self.rows - self.nulls

    @cached_property
    def variance(self) -> Doubles:
        """[features]: within these rows (n − 1); exactly 0 where all values are the same."""
        n = self.values.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            within = (self.squares - np.square(self.total) / n) / (n - 1)
        moves = (within > STEADY * np.square(self.baseline.std)) & (within < np.inf)
        return np.asarray(np.where(moves, within, 0.0))

    def mean(self) -> Doubles:
        """[features]: mean of the values, NaN where there are none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.baseline.mean + self.total / self.values

    def std(self) -> Doubles:
        """[features]: standard deviation (population), NaN where there are no values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self.squares / self.values - np.square(self.total / self.values)
        return np.sqrt(np.maximum(variance, 0.0))

    def __add__(self, other: "FeatureCounts") -> "FeatureCounts":
        if self.baseline.digest != other.baseline.digest:
            raise ProtocolError(
                f"counts against baselines {self.baseline.digest[:12]} and "
                f"{other.baseline.digest[:12]} can't be added"
            )
        return FeatureCounts(
            self.baseline,
            self.rows + other.rows,
            self.bins + other.bins,
            self.nulls + other.nulls,
            self.total + other.total,
            self.squares + other.squares,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.joint_total + other.joint_total,
            self.joint_squares + other.joint_squares,
        )


def empty(baseline: Baseline) -> FeatureCounts:
    """Counts of no rows: the zero of addition."""
    size = len(baseline)
    return FeatureCounts(
        baseline,
        0,
        np.zeros((size, baseline.width), np.int64),
        np.zeros(size, np.int64),
        np.zeros(size),
        np.zeros(size),
        np.full(size, np.inf),
        np.full(size, -np.inf),
        np.zeros(baseline.projections),
        np.zeros(baseline.projections),
    )


def count(baseline: Baseline, tensors: Tensors) -> FeatureCounts:
    """Count a batch of rows; raises ProtocolError when a watched tensor is missing or misshapen."""
    matrix, coded = baseline.extractor.extract(tensors)
    counts = empty(baseline)
    rows = matrix.shape[1]
    if not rows and coded:
        rows = len(next(iter(coded.values())))
    if rows:
        joint = _projected(baseline, matrix)
        counts.joint_total[:], counts.joint_squares[:] = joint
        _count_numeric(counts, matrix)
        for index, values in coded.items():
            _count_categories(counts, index, values)
    return FeatureCounts(
        baseline, rows, counts.bins, counts.nulls, counts.total, counts.squares, counts.low,
        counts.high, counts.joint_total, counts.joint_squares,
    )  # fmt: skip


def _projected(baseline: Baseline, matrix: Floats) -> tuple[Doubles, Doubles]:
    """Sums and sums of squares of each projection of the rows; what is missing counts as normal."""
    if not baseline.projections:
        return np.zeros(0), np.zeros(0)
    weights, offset = baseline.joint
    with np.errstate(invalid="ignore", over="ignore"):
        y = weights @ matrix
    if not np.isfinite(y).all():
        y = weights @ np.where(np.isfinite(matrix), matrix, baseline.numeric_mean[:, None])
    y = y.astype(np.float64) - offset[:, None]
    return y.sum(axis=1), np.einsum("ij,ij->i", y, y)


def _count_numeric(counts: FeatureCounts, matrix: Floats) -> None:
    """Fill in the numeric features of ``counts`` from float32 [features, rows], which it may sort.

    Many values, all finite, are counted by comparing, the others by sorting.
    """
    baseline = counts.baseline
    where = baseline.extractor.numeric
    if not len(where):
        return
    if matrix.shape[1] < COMPARED_ROWS_MIN:
        count_sorted(counts, matrix, where, baseline.edges)
        return
    low, high = matrix.min(axis=1), matrix.max(axis=1)
    whole = np.isfinite(low) & np.isfinite(high)
    if whole.all():
        count_compared(counts, matrix, where, baseline.edges)
        counts.low[where], counts.high[where] = low, high
        return
    some = where[whole]
    count_compared(counts, matrix[whole], some, baseline.edges[whole])
    counts.low[some], counts.high[some] = low[whole], high[whole]
    count_sorted(counts, matrix[~whole], where[~whole], baseline.edges[~whole])


def count_sorted(
    counts: FeatureCounts, matrix: Floats, where: NDArray[np.intp], edges: Floats
) -> None:
    """Count rows of ``matrix``, which it sorts, as features ``where``.

    A sorted column answers every edge by binary search, and the needles around the edges bound
    the finite values, so that infinities and NaN (sorted last) are counted without a look at them.
    """
    matrix.sort(axis=1)
    rows = matrix.shape[1]
    needles = np.empty((len(where), EDGES + 2), np.float32)
    needles[:, 0] = -FLOAT32_MAX
    needles[:, 1:-1] = edges
    needles[:, -1] = np.inf
    below = np.empty((len(where), EDGES + 2), np.int64)
    for column, needle, found in zip(matrix, needles, below, strict=True):
        found[:] = column.searchsorted(needle)
    first, last = below[:, 0], below[:, -1]
    counts.bins[where, :NUMERIC_BINS] = np.diff(below, axis=1)
    counts.nulls[where] = rows - (last - first)
    some = np.flatnonzero(last > first)
    counts.low[where[some]] = matrix[some, first[some]]
    counts.high[where[some]] = matrix[some, last[some] - 1]
    shifted = matrix - counts.baseline.mean[where, None]
    for i in np.flatnonzero(last - first < rows):
        shifted[i, : first[i]] = 0.0
        shifted[i, last[i] :] = 0.0
    counts.total[where] = shifted.sum(axis=1)
    counts.squares[where] = np.einsum("ij,ij->i", shifted, shifted)


def count_compared(
    counts: FeatureCounts, matrix: Floats, where: NDArray[np.intp], edges: Floats
) -> None:
    """Count rows of ``matrix``, all finite, as features ``where``: all but the extremes.

    A value's bin is the number of edges not above it. 23 comparisons that vector instructions make
    cost less than sorting, and nothing hangs on a processor's being able to sort with them.
    """
    together = max(COMPARED_VALUES_MAX // matrix.shape[1], 1)
    for begin in range(0, len(where), together):
        part, places = matrix[begin : begin + together], where[begin : begin + together]
        above = np.empty(part.shape, np.bool_)
        bins = np.zeros(part.shape, np.uint8)
        for edge in edges[begin : begin + together].T:
            np.greater_equal(part, edge[:, None], out=above)
            np.add(bins, above.view(np.uint8), out=bins)
        coded = bins.astype(np.int64)
        coded += np.arange(0, len(part) * NUMERIC_BINS, NUMERIC_BINS)[:, None]
        tally = np.bincount(coded.ravel(), minlength=len(part) * NUMERIC_BINS)
        counts.bins[places, :NUMERIC_BINS] = tally.reshape(len(part), NUMERIC_BINS)
        shifted = part - counts.baseline.mean[places, None]
        counts.total[places] = shifted.sum(axis=1)
        counts.squares[places] = np.einsum("ij,ij->i", shifted, shifted)


def _count_categories(counts: FeatureCounts, index: int, values: NDArray[Any]) -> None:
    known = {category: bin_ for bin_, category in enumerate(counts.baseline.bins[index].categories)}
    distinct, inverse = as_categories(values)
    tally = np.bincount(inverse, minlength=len(distinct))
    for category, n in zip(distinct, tally.tolist(), strict=True):
        if category is None:
            counts.nulls[index] += n
        else:
            counts.bins[index, known.get(category, len(known))] += n
