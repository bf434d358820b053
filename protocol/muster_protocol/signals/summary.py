"""The summary of a window: what a model did and saw, as counts that add up.

Summaries of one manifest merge in any order: windows into hours, devices into fleets. Counts add
exactly, up to 2^53, sums in float64. Never across manifests: another version has another meaning of
a bin.
"""

from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import histogram
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.messages import Stamp


def added(first: int, second: int) -> int:
    """Their sum, or the largest integer of the wire: what merges can't overflow anything."""
    return min(first + second, limits.INTEGER_MAX)


def _added(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.minimum(first + second, limits.INTEGER_MAX), np.int64)


@dataclass(frozen=True)
class Tally:
    """How many of each thing happened. The order of the fields is the wire's: append only."""

    inferences: int = 0
    """Requests answered by the model."""
    fallbacks: int = 0
    """Requests answered by the manifest's fallback; why is counted among the errors."""
    errors_input: int = 0
    """Requests refused because of their input."""
    errors_run: int = 0
    """The runtime raised."""
    errors_output: int = 0
    """The answer was not finite or not of the declared shape."""
    errors_no_model: int = 0
    """No model could be asked."""
    errors_other: int = 0
    overruns: int = 0
    """Rows overwritten in the ring before they were folded: known only by their number."""
    labels_right: int = 0
    labels_wrong: int = 0
    labels_unmatched: int = 0
    """Labels of an inference that is not, or no longer, remembered, or that name no class."""
    compared: int = 0
    """Inferences of the champion that this model was shown too, as its challenger. They are not
    among ``inferences``, nor do they bring errors or labels there: nobody got these answers."""
    disagreed: int = 0
    """Of those compared, answered otherwise than by the champion, or not at all."""
    compared_failed: int = 0
    """Of those compared, the ones this model could not answer."""
    compared_labelled: int = 0
    """Of those compared, the ones whose label came."""
    compared_right: int = 0
    """Of those labelled, right by this model; of a regression, no farther off than the champion."""
    compared_champion_right: int = 0
    """Of those labelled, right by the champion; of a regression, no farther off than this model."""

    @property
    def errors(self) -> int:
        """Failed inferences of every kind."""
        return sum(_error_values(self))

    def errors_by_kind(self) -> dict[str, int]:
        """Failed inferences by what went wrong."""
        return dict(zip(_ERROR_KINDS, _error_values(self), strict=True))

    def named(self) -> dict[str, int]:
        """Each count by its name."""
        return dict(zip(TALLY_NAMES, self.values(), strict=True))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*map(added, self.values(), other.values()))

    def values(self) -> tuple[int, ...]:
        """In the wire's order."""
        values: tuple[int, ...] = _tally_values(self)
        return values


TALLY_NAMES = tuple(tally_field.name for tally_field in fields(Tally))
_tally_values = attrgetter(*TALLY_NAMES)
_ERROR_NAMES = tuple(name for name in TALLY_NAMES if name.startswith("errors_"))
_ERROR_KINDS = tuple(name.removeprefix("errors_") for name in _ERROR_NAMES)
_error_values = attrgetter(*_ERROR_NAMES)


@dataclass(frozen=True)
class LabelErrors:
    """Errors of a regression against labels that came later."""

    count: int = 0
    absolute: float = 0.0
    """Sum of |answer − label|."""
    square: float = 0.0
    """Sum of (answer − label)²."""

    def __add__(self, other: "LabelErrors") -> "LabelErrors":
        return LabelErrors(
            added(self.count, other.count),
            self.absolute + other.absolute,
            self.square + other.square,
        )


def _latency() -> NDArray[np.int64]:
    return np.zeros(histogram.LATENCY_BINS, np.int64)


def _confidence() -> NDArray[np.int64]:
    return np.zeros(histogram.CONFIDENCE_BINS, np.int64)


Confusion = dict[tuple[int, int], int]
"""(label class, predicted class) to count; only pairs that occurred."""


@dataclass(frozen=True, eq=False)
class Summary:
    """One window, or several merged."""

    model: str
    version: str
    manifest: str
    """SHA-256 of the manifest, in hexadecimal."""
    opened: Stamp
    closed: Stamp
    windows: int = 1
    """Windows merged into this one: the resolution that is left."""
    counts: Tally = Tally()
    latency: NDArray[np.int64] = field(default_factory=_latency)
    confidence: NDArray[np.int64] = field(default_factory=_confidence)
    confusion: Confusion = field(default_factory=dict)
    label_errors: LabelErrors = LabelErrors()
    cpu_seconds: float = 0.0
    energy_joules: float = 0.0
    """An estimate; 0 when the device makes none."""
    features: FeatureCounts | None = None

    def latency_quantile(self, share: float) -> float:
        """Seconds; NaN when nothing was answered."""
        return histogram.latency_quantile(self.latency, share)

    @property
    def accuracy(self) -> float | None:
        """Share of labels that agree with the prediction; None without labels."""
        labels = self.counts.labels_right + self.counts.labels_wrong
        return self.counts.labels_right / labels if labels else None


def merge(first: Summary, second: Summary) -> Summary:
    """Both together; raises ProtocolError when they are of different manifests."""
    if first.manifest != second.manifest:
        raise ProtocolError(
            f"summaries of {_what(first)} and {_what(second)} can't be merged: "
            "counts of different manifests have different meanings"
        )
    pairs = set(first.confusion) | set(second.confusion)
    return replace(
        first,
        opened=min(first.opened, second.opened, key=_order),
        closed=max(first.closed, second.closed, key=_order),
        windows=added(first.windows, second.windows),
        counts=first.counts + second.counts,
        latency=_added(first.latency, second.latency),
        confidence=_added(first.confidence, second.confidence),
        confusion={
            pair: added(first.confusion.get(pair, 0), second.confusion.get(pair, 0))
            for pair in pairs
        },
        label_errors=first.label_errors + second.label_errors,
        cpu_seconds=first.cpu_seconds + second.cpu_seconds,
        energy_joules=first.energy_joules + second.energy_joules,
        features=_add(first.features, second.features),
    )


def _add(first: FeatureCounts | None, second: FeatureCounts | None) -> FeatureCounts | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _order(stamp: Stamp) -> tuple[Any, ...]:
    # A total order, so that merging stays associative; a hub that wants true times re-anchors the
    # stamps of each window before it merges.
    return stamp.wall_seconds, stamp.monotonic_seconds, stamp.boot, stamp.quality


def _what(summary: Summary) -> str:
    return f"{summary.model} {summary.version} (manifest {summary.manifest[:12]})"
