"""The open window: a summary that still grows. Pure."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import histogram
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.summary import Confusion, LabelErrors, Summary, Tally
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Stamp


@dataclass(frozen=True)
class ModelIdentity:
    """Whose window it is."""

    model: str
    version: str
    manifest: str
    """SHA-256 of the manifest, in hexadecimal."""

    @classmethod
    def of(cls, manifest: Manifest, digest: str) -> "ModelIdentity":
        """The identity of a manifest and its hash."""
        return cls(manifest.model, manifest.version, digest)


@dataclass(eq=False)
class OpenWindow:
    """Adds up one window of one model; ``summary`` may be taken at any time."""

    identity: ModelIdentity
    opened: Stamp
    windows: int = 1
    counts: Tally = field(default_factory=Tally)
    latency: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(histogram.LATENCY_BINS, np.int64)
    )
    confidence: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(histogram.CONFIDENCE_BINS, np.int64)
    )
    confusion: Confusion = field(default_factory=dict)
    label_errors: LabelErrors = field(default_factory=LabelErrors)
    cpu_seconds: float = 0.0
    energy_joules: float = 0.0
    features: FeatureCounts | None = None

    @classmethod
    def resumed(cls, summary: Summary) -> "OpenWindow":
        """The window a summary was taken of."""
        return cls(
            ModelIdentity(summary.model, summary.version, summary.manifest),
            summary.opened,
            summary.windows,
            summary.counts,
            summary.latency,
            summary.confidence,
            dict(summary.confusion),
            summary.label_errors,
            summary.cpu_seconds,
            summary.energy_joules,
            summary.features,
        )

    @property
    def empty(self) -> bool:
        """Nothing was counted yet."""
        return self.counts == Tally()

    def add(self, counts: Tally) -> None:
        """Add counts of inferences."""
        self.counts += counts

    def add_features(self, features: FeatureCounts) -> None:
        """Add counts over the baseline's bins."""
        self.features = features if self.features is None else self.features + features

    def add_class_label(self, label: int, predicted: int) -> None:
        """A label that names the class ``label``."""
        right = label == predicted
        self.counts += Tally(labels_right=int(right), labels_wrong=int(not right))
        self.confusion[label, predicted] = self.confusion.get((label, predicted), 0) + 1

    def add_value_label(self, label: float, answered: float) -> None:
        """A label of a regression."""
        error = answered - label
        self.label_errors += LabelErrors(1, abs(error), error * error)

    def summary(self, closed: Stamp) -> Summary:
        """What it holds, as if it were closed at that moment."""
        return Summary(
            self.identity.model,
            self.identity.version,
            self.identity.manifest,
            self.opened,
            closed,
            self.windows,
            self.counts,
            self.latency.copy(),
            self.confidence.copy(),
            dict(self.confusion),
            self.label_errors,
            self.cpu_seconds,
            self.energy_joules,
            self.features,
        )
