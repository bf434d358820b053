"""How far a window is from its baseline: the textbook statistics, on bins, each with its n.

All work on arrays [features, width] of counts; bins that nothing can fall into never count. Only
``psi_corrected`` is an effect size that means the same at every sample size; the others are for
people and charts, and decide nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import EDGES, SHARE_ONE, TAIL, Baseline
from muster_protocol.signals.binning import Counts, FeatureCounts
from muster_protocol.signals.distributions import chi_square_tail

Doubles = NDArray[np.float64]
SMOOTHING = 0.5
TAIL_SHARE_MAX = 4 * TAIL


@dataclass(frozen=True)
class FeatureStatistics:
    """One feature, a window against the training baseline."""

    name: str
    n: int
    nulls: int
    psi: float
    psi_corrected: float
    """PSI less what sampling alone makes of it; around 0 without drift, at any n."""
    jensen_shannon: float
    """Divergence in nats, 0 to ln 2."""
    ks: float | None
    """Largest distance of the cumulative shares; None for what has no order."""
    wasserstein: float | None
    """W1 in units of the feature, at least the distance of the means; None likewise."""
    chi_square: float
    p_value: float
    """Of the chi-square test, if rows were independent, which they seldom are."""


def statistics(counts: FeatureCounts) -> list[FeatureStatistics]:
    """Every statistic of every feature."""
    baseline = counts.baseline
    training = training_counts(baseline)
    live = pooled_live(baseline)
    tail_counts, tail_training = pooled(baseline, counts.bins), pooled(baseline, training)
    plain = psi(tail_counts, tail_training, live)
    corrected = psi_corrected(tail_counts, tail_training, live)
    jensen = jensen_shannon(counts.bins, training)
    kolmogorov = ks(counts.bins, training)
    mean = counts.mean()
    found = []
    for i, feature in enumerate(baseline.features):
        ordered = feature.kind == "numeric" and bool(counts.values[i])
        square, freedom = chi_square(counts.bins[i], training[i])
        distance = None
        if ordered:
            edges = np.array(baseline.bins[i].edges)
            w1 = wasserstein(counts.bins[i, : EDGES + 1], training[i, : EDGES + 1], edges)
            distance = max(w1, abs(float(mean[i] - baseline.mean[i])))
        found.append(
            FeatureStatistics(
                feature.name,
                int(counts.values[i]),
                int(counts.nulls[i]),
                float(plain[i]),
                float(corrected[i]),
                float(jensen[i]),
                float(kolmogorov[i]) if ordered else None,
                distance,
                square,
                chi_square_tail(square, freedom) if freedom else 1.0,
            )
        )
    return found


def training_counts(baseline: Baseline) -> Doubles:
    """[features, width]: the training rows by bin."""
    return np.asarray(baseline.shares / SHARE_ONE * baseline.rows[:, None])


def pooled(baseline: Baseline, counts: Counts | Doubles) -> Doubles:
    """Counts with what is out of the training range put into the tails, where there are some.

    Bins in which next to nothing is expected would make PSI's bias depend on chance.
    """
    low, high = _with_tails(baseline)
    together = counts.astype(np.float64)
    together[low, 1] += together[low, 0]
    together[low, 0] = 0.0
    together[high, EDGES - 1] += together[high, EDGES]
    together[high, EDGES] = 0.0
    return together


def pooled_live(baseline: Baseline) -> NDArray[np.bool_]:
    """[features, width]: live bins once counts are ``pooled``."""
    low, high = _with_tails(baseline)
    live = baseline.live.copy()
    live[low, 0] = False
    live[high, EDGES] = False
    return live


def _with_tails(baseline: Baseline) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numeric features whose outermost bins in range are tails, not a value of its own weight."""
    numeric = baseline.extractor.numeric
    tail = baseline.live & (baseline.shares <= TAIL_SHARE_MAX * SHARE_ONE)
    return numeric[tail[numeric, 1]], numeric[tail[numeric, EDGES - 1]]


def psi(counts: Counts | Doubles, reference: Doubles, live: NDArray[np.bool_]) -> Doubles:
    """Population stability index, each live bin of both sides smoothed by half a row."""
    p, q = _smoothed(reference, live), _smoothed(counts, live)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(live, (q - p) * np.log(q / p), 0.0)
    return np.asarray(terms.sum(axis=-1))


def psi_corrected(counts: Counts | Doubles, reference: Doubles, live: NDArray[np.bool_]) -> Doubles:
    """PSI less its expectation without drift: (bins − 1)·(1/n + 1/N), n shrunk by smoothing."""
    n = counts.sum(axis=-1)
    total = np.maximum(reference.sum(axis=-1), 1.0)
    size = live.sum(axis=-1)
    bias = (size - 1) * (n / np.maximum(n + SMOOTHING * size, 1.0) ** 2 + 1 / total)
    return np.asarray(psi(counts, reference, live) - bias)


def jensen_shannon(counts: Counts | Doubles, reference: Doubles) -> Doubles:
    """Jensen–Shannon divergence in nats."""
    p, q = _shares(reference), _shares(counts)
    middle = (p + q) / 2
    return np.asarray((_relative(p, middle) + _relative(q, middle)) / 2)


def ks(counts: Counts | Doubles, reference: Doubles) -> Doubles:
    """Kolmogorov–Smirnov distance of the binned distributions."""
    apart = np.cumsum(_shares(counts) - _shares(reference), axis=-1)
    return np.asarray(np.abs(apart).max(axis=-1, initial=0.0))


def wasserstein(counts: Counts | Doubles, reference: Doubles, edges: Doubles) -> float:
    """W1 between point masses at the bins' middles; what is out of range counts at its edge."""
    middles = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    apart = np.cumsum(_shares(counts) - _shares(reference))
    return float(np.sum(np.abs(apart[:-1]) * np.diff(middles)))


def chi_square(counts: Counts | Doubles, reference: Doubles) -> tuple[float, int]:
    """Chi-square of two samples and its degrees of freedom, over bins that hold anything."""
    n, total = float(counts.sum()), float(reference.sum())
    both = counts + reference
    some = both > 0
    if not n or not total:
        return 0.0, 0
    weight = np.sqrt(total / n)
    terms = np.square(weight * counts[some] - reference[some] / weight) / both[some]
    return float(terms.sum()), int(some.sum()) - 1


def _smoothed(counts: Counts | Doubles, live: NDArray[np.bool_]) -> Doubles:
    raised = np.where(live, counts + SMOOTHING, 0.0)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _shares(counts: Counts | Doubles) -> Doubles:
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


def _relative(p: Doubles, q: Doubles) -> Doubles:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(p > 0, p * np.log(p / q), 0.0).sum(axis=-1))
