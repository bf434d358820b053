"""Histograms with bins fixed once for all models: latency, log-linear, and confidence, linear.

Latency is counted in whole microseconds: below 8 exactly, above in 8 equal steps per doubling, so
a bin is never wider than 1/8 of its value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

STEPS = 8
_STEP_BITS = 3
LATENCY_US_MAX = (1 << 27) - 1
"""About 134 s; what takes longer is counted in the last bin."""
LATENCY_BINS = STEPS * (27 - _STEP_BITS + 1)
CONFIDENCE_BINS = 20


def latency_bins(microseconds: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each latency."""
    value = np.minimum(microseconds.astype(np.uint64), LATENCY_US_MAX).astype(np.int64)
    octave = np.maximum(np.frexp(value.astype(np.float64))[1] - 1 - _STEP_BITS, 0)
    step = value >> octave
    return np.asarray(octave * STEPS + step, np.int64)


def latency_edges() -> NDArray[np.int64]:
    """Microseconds at which each bin begins, and where the last ends [LATENCY_BINS + 1]."""
    bins = np.arange(LATENCY_BINS + 1)
    octave = np.maximum(bins // STEPS - 1, 0)
    return np.asarray((bins - octave * STEPS) << octave, np.int64)


def count_latency(microseconds: NDArray[Any]) -> Counts:
    """How many latencies fall into each bin, [LATENCY_BINS]."""
    return np.bincount(latency_bins(microseconds), minlength=LATENCY_BINS)


def count_confidence(confidence: NDArray[Any]) -> Counts:
    """Counts in 20 equal bins of [0, 1]; what is outside or not a number is left out."""
    inside = confidence[(confidence >= 0) & (confidence <= 1)]
    places = np.minimum((inside * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    return np.bincount(places, minlength=CONFIDENCE_BINS)


def latency_quantile(counts: Counts, share: float) -> float:
    """Seconds below which ``share`` of the latencies lie, interpolated; NaN without any."""
    total = int(counts.sum())
    if not total:
        return float("nan")
    edges = latency_edges()
    below = np.cumsum(counts)
    rank = share * total
    bin_ = int(np.searchsorted(below, rank, side="left").clip(0, LATENCY_BINS - 1))
    before = int(below[bin_]) - int(counts[bin_])
    part = (rank - before) / int(counts[bin_]) if counts[bin_] else 0.0
    width = int(edges[bin_ + 1]) - int(edges[bin_])
    return (int(edges[bin_]) + min(max(part, 0.0), 1.0) * width) / 1e6
