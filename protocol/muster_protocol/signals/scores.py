"""The scores that drift tests watch, all made from a window's counts.

A numeric feature's bins get normal scores: what a standard normal would be on average between the
same quantiles of training. Its *location* score is their mean (0 without drift), its *dispersion*
score their variance. A category's score is its share of the values. Each feature has a *missing*
score, the share of rows without a value.
"""

from enum import IntEnum
from functools import lru_cache
from statistics import NormalDist
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import Counts
from muster_protocol.signals.divergence import training_counts
from muster_protocol.signals.sampling import Spread

Doubles = NDArray[np.float64]
SMOOTHING = 0.5
"""Rows added to each live bin, so that nothing counts as impossible that training lacked."""


class Statistic(IntEnum):
    """What a score measures of a feature."""

    LOCATION = 0
    """Where a window's rows lie: the mean of their scores."""
    DISPERSION = 1
    """How far they are spread."""
    SHARE = 2
    """How often one category occurs."""
    MISSING = 3
    """How often there is no value."""


class Scores:
    """All scores of a baseline, as arrays [scores]."""

    def __init__(self, baseline: Baseline) -> None:
        shares = smooth_shares(baseline, training_counts(baseline))
        normal = normal_scores(shares)
        feature: list[int] = []
        kind: list[Statistic] = []
        weights: list[Doubles] = []
        category: list[int] = []
        for i, described in enumerate(baseline.features):
            places = range(0)
            match described.kind:
                case "numeric":
                    weights += [normal[i], np.square(normal[i])]
                    kind += [Statistic.LOCATION, Statistic.DISPERSION]
                    category += [0, 0]
                    feature += [i, i]
                case "boolean":
                    places = range(1, 2)  # two that add up to one need a single test
                case "categorical":
                    places = range(baseline.sizes[i])
                case _:
                    assert_never(described.kind)
            for bin_ in places:
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

    def measure(self, bins: Counts, nulls: Counts, rows: int | Counts) -> tuple[Doubles, Doubles]:
        """(scores, rows behind each) of a window; NaN where no row is.

        Many windows at once: bins [..., features, width], nulls [..., features], rows [...].
        """
        values = bins.sum(axis=-1)[..., self.feature]
        n = np.where(self.missing, np.asarray(rows)[..., None], values).astype(np.float64)
        sums = np.einsum("sw,...sw->...s", self._weights, bins[..., self.feature, :] * 1.0)
        sums[..., self.missing] = nulls[..., self.feature[self.missing]]
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(n > 0, sums / n, np.nan)
        x[..., self.dispersion] -= np.square(x[..., self.dispersion - 1])
        return x, n

    def direction(self, score: int, *, up: bool) -> str:
        """A deviation in words."""
        match Statistic(self.kind[score]):
            case Statistic.LOCATION:
                return "higher" if up else "lower"
            case Statistic.DISPERSION:
                return "wider" if up else "narrower"
            case Statistic.MISSING:
                return "more missing" if up else "fewer missing"
            case Statistic.SHARE:
                bins = self.baseline.bins[self.feature[score]]
                place = int(self.category[score])
                name = str(bins.categories[place]) if place < len(bins.categories) else "other"
                return f"more {name}" if up else f"fewer {name}"
            case _ as unreachable:
                assert_never(unreachable)

    def spread(self, shares: Doubles, rows: Doubles, nulls: Doubles) -> Spread:
        """How scores stray under ``shares`` [features, width], learned from ``rows`` values."""
        rates = (nulls + SMOOTHING) / (rows + nulls + 2 * SMOOTHING)
        values, probabilities = self._weights.copy(), shares[self.feature]
        location = self.dispersion - 1
        mean = np.einsum("sw,sw->s", values[location], probabilities[location])
        values[self.dispersion] = np.square(values[location] - mean[:, None])
        # A row is missing, or it isn't.
        missing = np.flatnonzero(self.missing)
        values[missing], probabilities[missing] = 0.0, 0.0
        values[missing, 0] = 1.0
        rate = rates[self.feature[missing]]
        probabilities[missing, 0], probabilities[missing, 1] = rate, 1 - rate
        learned = np.where(self.missing, (rows + nulls)[self.feature], rows[self.feature])
        return Spread.of(values, probabilities, learned)


@lru_cache(maxsize=16)
def scores_of(baseline: Baseline) -> Scores:
    """The baseline's scores: the same for all devices, and dear to make for each window."""
    return Scores(baseline)


def normal_scores(shares: Doubles) -> Doubles:
    """[features, width]: mean of a standard normal between each bin's quantiles."""
    normal = NormalDist()
    upper = np.clip(np.cumsum(shares, axis=1), 0.0, 1.0)
    height = np.zeros((shares.shape[0], shares.shape[1] + 1))
    for row, edges in zip(height, upper, strict=True):
        row[1:] = [normal.pdf(normal.inv_cdf(edge)) if 0 < edge < 1 else 0.0 for edge in edges]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shares > 0, (height[:, :-1] - height[:, 1:]) / shares, 0.0)


def smooth_shares(baseline: Baseline, counts: Doubles) -> Doubles:
    """[features, width]: shares of live bins, none of them zero."""
    raised = np.where(baseline.live, counts + SMOOTHING, 0.0)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
