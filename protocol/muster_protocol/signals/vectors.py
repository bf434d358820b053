"""A window as a vector: each feature's level and spread, each category's share.

For a numeric feature the mean, in training standard deviations from the training mean, and, from
``SPREAD_ROWS_MIN`` rows on, log(s/σ + 0.1), where s is the window's standard deviation (0.1 keeps a
signal that stands still finite). For a category the share of each bin but the first, most frequent
one. Relations between features are seen in the spread of fixed projections of the rows.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.timeline import HOURS, SHARES_MAX

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]
SPREAD_ROWS_MIN = 3
SPREAD_OFFSET = 0.1
MISSING_SMOOTHING = 0.3
EXTREME_TOLERANCE = 2.0**-7
"""Extremes travel with 8 bits: such a part of their distance from the mean is no difference."""
REGIME_SHARE_MIN = 0.8
"""Of a window's rows, from which on it is of one regime."""
HOUR_SECONDS = 3600.0
WEEK_BEGINS = 4 * 86_400.0
"""1 January 1970 was a Thursday; the first Monday began so many seconds later."""
UNIT_SHARE = 1e-3
"""Of its own size, the unit in which a feature that never moved in training is measured."""


class Kind(IntEnum):
    """What a number of a window's vector measures."""

    LEVEL = 0
    """Where a numeric feature's rows lie."""
    SPREAD = 1
    """How far they are spread."""
    SHARE = 2
    """How often one category occurs."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Which number of the vector is what."""

    baseline: Baseline

    @cached_property
    def numeric(self) -> Places:
        """Places of the numeric features in the baseline."""
        return self.baseline.extractor.numeric

    @cached_property
    def units(self) -> Doubles:
        """[numeric]: what a level is counted in: the training standard deviation."""
        bins = [self.baseline.bins[i] for i in self.numeric.tolist()]
        return np.array(
            [
                entry.std if entry.std > 0 else max(abs(entry.mean) * UNIT_SHARE, 1e-9)
                for entry in bins
            ]
        )

    @cached_property
    def shares(self) -> tuple[Places, Places]:
        """Feature and bin of each share."""
        sizes = self.baseline.sizes
        pairs = [
            (feature, place)
            for feature in self.baseline.extractor.coded
            for place in range(1, min(int(sizes[feature]), SHARES_MAX + 1))
        ]
        return (
            np.array([feature for feature, _ in pairs], np.intp),
            np.array([place for _, place in pairs], np.intp),
        )

    @cached_property
    def feature(self) -> Places:
        """[numbers]: whose number it is."""
        return np.concatenate([self.numeric, self.numeric, self.shares[0]])

    @cached_property
    def kind(self) -> NDArray[np.intp]:
        """Kind of each number of the vector, [numbers]."""
        n = len(self.numeric)
        sizes = {Kind.LEVEL: n, Kind.SPREAD: n, Kind.SHARE: len(self.shares[0])}
        return np.concatenate([np.full(size, kind, np.intp) for kind, size in sizes.items()])

    def __len__(self) -> int:
        return len(self.feature)

    def measure(self, counts: FeatureCounts) -> tuple[Doubles, Doubles]:
        """[numbers] the vector, NaN where the window can't tell, and values behind each number."""
        values = counts.values.astype(np.float64)[self.feature]
        n, units = counts.values[self.numeric].astype(np.float64), self.units
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = counts.total[self.numeric] / n
            level = offset / units
            spread = np.log(np.sqrt(counts.variance[self.numeric]) / units + SPREAD_OFFSET)
            spread[n < SPREAD_ROWS_MIN] = np.nan
            feature, place = self.shares
            share = counts.bins[feature, place] / counts.values[feature]
        x = np.concatenate([level, spread, share])
        x[values <= 0] = np.nan
        return x, values


def relations(counts: FeatureCounts) -> Doubles:
    """[projections]: log spread of each projection of the rows; NaN in too short a window."""
    n = counts.rows
    if n < SPREAD_ROWS_MIN:
        return np.full(len(counts.joint_total), np.nan)
    within = (counts.joint_squares - np.square(counts.joint_total) / n) / (n - 1)
    return np.asarray(np.log(np.sqrt(np.maximum(within, 0.0)) + SPREAD_OFFSET))


def missing_share(before: Doubles, counts: FeatureCounts) -> Doubles:
    """[features]: the share of missing values, smoothed over windows."""
    now = counts.nulls / max(counts.rows, 1)
    return np.asarray(MISSING_SMOOTHING * now + (1 - MISSING_SMOOTHING) * before)


def same_extreme(mean: Doubles, before: Doubles, now: Doubles) -> Flags:
    """Whether a window's extreme is that of the window before it."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(now - before) <= np.abs(now - mean) * EXTREME_TOLERANCE)


def hours(times: NDArray[np.float64]) -> NDArray[np.intp]:
    """The hour of the week, UTC, of each time."""
    return np.asarray((np.floor((times - WEEK_BEGINS) / HOUR_SECONDS) % HOURS).astype(np.intp))


def regime_of(counts: FeatureCounts, context: int) -> int:
    """The bin of the context that (nearly) all rows have; −1 while it changes."""
    bins = counts.bins[context]
    place = int(bins.argmax())
    return place if bins[place] >= REGIME_SHARE_MIN * max(counts.rows, 1) else -1
