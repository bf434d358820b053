"""The scores that drift tests watch: each a mean over rows, so it adds up like the counts it is of.

A numeric feature has a *location* score, the mean of the baseline's mid-ranks (½ without drift),
and a *dispersion* score, the mean squared distance of the ranks from ½. A category's score is its
share of the values. Each feature has a *missing* score, the share of rows without a value.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from muster_protocol.baseline import Baseline
from muster_protocol.binning import Counts
from muster_protocol.divergence import training_counts

Doubles = NDArray[np.float64]
SMOOTHING = 0.5
"""Rows added to each live bin, so that nothing counts as impossible that training lacked."""


class Statistic(IntEnum):
    LOCATION = 0
    DISPERSION = 1
    SHARE = 2
    MISSING = 3


@dataclass(frozen=True)
class Spread:
    """What a score does without drift, for one row: mean, variance, and the farthest one row is."""

    mean: Doubles
    variance: Doubles
    bound: Doubles
    rows: Doubles
    """Rows the three were learned from."""


class Scores:
    """All scores of a baseline, as arrays [scores]."""

    def __init__(self, baseline: Baseline) -> None:
        live = baseline.live
        shares = smooth_shares(baseline, training_counts(baseline))
        ranks = np.cumsum(shares, axis=1) - shares / 2
        feature: list[int] = []
        kind: list[Statistic] = []
        weights: list[Doubles] = []
        category: list[int] = []
        for i, described in enumerate(baseline.features):
            if described.kind == "numeric":
                location = np.where(live[i], ranks[i], 0.0)
                weights += [location, np.where(live[i], np.square(location - 0.5), 0.0)]
                kind += [Statistic.LOCATION, Statistic.DISPERSION]
                category += [0, 0]
                feature += [i, i]
            else:
                # Two shares that add up to one need a single test.
                bins = range(1, 2) if described.kind == "boolean" else range(baseline.sizes[i])
                for bin_ in bins:
                    weights.append(np.eye(1, baseline.width, bin_)[0])
                    kind.append(Statistic.SHARE)
                    category.append(bin_)
                    feature.append(i)
        for i in range(len(baseline)):
            weights.append(np.zeros(baseline.width))
            kind.append(Statistic.MISSING)
            category.append(0)
            feature.append(i)
        self.baseline = baseline
        self.feature = np.array(feature, np.intp)
        self.kind = np.array(kind, np.int64)
        self.category = np.array(category, np.intp)
        self.missing = self.kind == Statistic.MISSING
        self.dispersion = np.flatnonzero(self.kind == Statistic.DISPERSION)
        """Each directly follows its feature's location score."""
        self._weights = np.array(weights).reshape(len(feature), baseline.width)

    def __len__(self) -> int:
        return len(self.feature)

    def measure(self, bins: Counts, nulls: Counts, rows: int) -> tuple[Doubles, Doubles]:
        """(scores, rows behind each) of a window; NaN where no row is."""
        values = bins.sum(axis=1)
        n = np.where(self.missing, rows, values[self.feature]).astype(np.float64)
        sums = np.einsum("sw,sw->s", self._weights, bins[self.feature].astype(np.float64))
        sums[self.missing] = nulls[self.feature[self.missing]]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(n > 0, sums / n, np.nan), n

    def direction(self, score: int, *, up: bool) -> str:
        """A deviation in words."""
        match Statistic(self.kind[score]):
            case Statistic.LOCATION:
                return "higher" if up else "lower"
            case Statistic.DISPERSION:
                return "wider" if up else "narrower"
            case Statistic.MISSING:
                return "more missing" if up else "fewer missing"
        bins = self.baseline.bins[self.feature[score]]
        place = int(self.category[score])
        name = str(bins.categories[place]) if place < len(bins.categories) else "other"
        return f"more {name}" if up else f"fewer {name}"

    def spread(self, shares: Doubles, rows: Doubles, nulls: Doubles) -> Spread:
        """How scores spread under ``shares`` [features, width], learned from ``rows`` values."""
        rates = (nulls + SMOOTHING) / (rows + nulls + 2 * SMOOTHING)
        p = shares[self.feature]
        mean = np.einsum("sw,sw->s", self._weights, p)
        variance = np.einsum("sw,sw->s", np.square(self._weights - mean[:, None]), p)
        apart = np.where(p > 0, np.abs(self._weights - mean[:, None]), 0.0)
        bound = apart.max(axis=1, initial=0.0)
        rate = rates[self.feature]
        learned = np.where(self.missing, (rows + nulls)[self.feature], rows[self.feature])
        return Spread(
            np.where(self.missing, rate, mean),
            np.where(self.missing, rate * (1 - rate), variance),
            np.where(self.missing, 1.0, bound),
            learned,
        )


def smooth_shares(baseline: Baseline, counts: Doubles) -> Doubles:
    """[features, width]: shares of live bins, none of them zero."""
    raised = np.where(baseline.live, counts + SMOOTHING, 0.0)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
