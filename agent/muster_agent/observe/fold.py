"""Folding recorded rows into the open window, in bulk, outside the inference path.

One ``Fold`` per ring. ``save`` is committed together with the ring cursor, so that after a crash
of either side a row is neither lost nor counted twice. Pure.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muster_agent.observe.labels import Author, LabelMemory
from muster_agent.observe.window import ModelIdentity, OpenWindow
from muster_agent.worker.rows import ErrorKind, Quality, RingLayout, RowKind, Rows
from muster_protocol.signals import binning, histogram, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.features import predicted
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import usable
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Stamp

log = logging.getLogger(__name__)
_ERRORS = {
    ErrorKind.INVALID_INPUT: "errors_input",
    ErrorKind.RUN_FAILED: "errors_run",
    ErrorKind.BAD_OUTPUT: "errors_output",
    ErrorKind.NO_MODEL: "errors_no_model",
}


class _Saved(Struct, frozen=True, array_like=True):
    window: bytes
    others: list[bytes]


class Fold:
    """Adds one ring's rows up, window by window."""

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        baseline: Baseline | None,
        opened: Stamp,
        memory: LabelMemory,
    ) -> None:
        """``baseline`` may be None: then everything but features is counted."""
        self.layout = RingLayout.of(manifest, digest)
        self.identity = ModelIdentity.of(manifest, digest)
        self.trouble = ""
        """Why features aren't counted although there is a baseline; empty when all is well."""
        self._manifest = manifest
        self._memory = memory
        classes = manifest.classifier.classes if manifest.classifier else ()
        self._author = Author(self.identity, classes)
        self._baseline = baseline
        if baseline is not None:
            try:
                binning.count(baseline, self._tensors(np.empty(0, self.layout.dtype)))
            except ProtocolError as error:
                self.trouble = f"{manifest.model} {manifest.version}: {error}"
                self._baseline = None
        self._window = self._opened(opened)
        self._others: dict[str, OpenWindow] = {}

    def feed(self, rows: Rows, overrun: int = 0) -> None:
        """Count rows read from the ring, and how many were lost before them."""
        self._window.add(Tally(overruns=overrun))
        chosen = rows["kind"] == RowKind.INFERENCE
        if chosen.any():
            self._feed_inferences(rows if chosen.all() else rows[chosen])
        for identifier, label in self.layout.labels(rows):
            self._feed_label(identifier, label)

    def recall(self, rows: Rows) -> None:
        """Remember the ids of rows counted before a restart, without counting them again."""
        good = rows[_good(rows)]
        self._remember(good, self._tensors(good))
        for identifier, _ in self.layout.labels(rows):
            self._memory.take(identifier)

    def add_cpu(self, seconds: float, joules: float) -> None:
        """CPU time the worker has used since it was last told, and an estimate of its energy."""
        self._window.cpu_seconds += seconds
        self._window.energy_joules += joules

    def close(self, closed: Stamp) -> list[Summary]:
        """The window's summary, first, and those of older versions that labels came for.

        A new window opens at ``closed``. An idle window carries no features: it weighs nothing.
        """
        if self._window.empty:
            self._window.features = None
        summaries = [window.summary(closed) for window in (self._window, *self._others.values())]
        self._window = self._opened(closed)
        self._others = {}
        return summaries

    @property
    def features(self) -> FeatureCounts | None:
        """Of the open window; None without a baseline."""
        return self._window.features

    @property
    def empty(self) -> bool:
        """Nothing was counted since the window opened."""
        return self._window.empty and not self._others

    def save(self) -> bytes:
        """The open window, exactly."""
        window, *others = (
            summary_wire.encode(window.summary(window.opened), exact=True)
            for window in (self._window, *self._others.values())
        )
        return msgspec.msgpack.encode(_Saved(window, others))

    def restore(self, saved: bytes) -> None:
        """Continue a saved window; raises ProtocolError when it isn't one of this manifest."""
        try:
            state = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"not a saved window: {error}") from None
        summary = _read(state.window, self._baseline)
        if not isinstance(summary, Summary) or summary.manifest != self.identity.manifest:
            raise ProtocolError(f"not a saved window of manifest {self.identity.manifest[:12]}")
        self._window = OpenWindow.resumed(summary)
        others = [summary_wire.decode(other, None) for other in state.others]
        self._others = {
            other.manifest: OpenWindow.resumed(other)
            for other in others
            if isinstance(other, Summary)
        }

    def _opened(self, opened: Stamp) -> OpenWindow:
        features = None if self._baseline is None else binning.empty(self._baseline)
        return OpenWindow(self.identity, opened, features=features)

    def _tensors(self, rows: Rows) -> dict[str, NDArray[Any]]:
        return {**self.layout.input_arrays(rows), **self.layout.output_arrays(rows)}

    def _feed_inferences(self, rows: Rows) -> None:
        good = _good(rows)
        answered = int(good.sum())
        counts = {"inferences": answered}
        if answered < len(rows):
            by_kind = np.bincount(rows["error"], minlength=256)
            for kind, name in _ERRORS.items():
                counts[name] = int(by_kind[kind])
            counts["errors_other"] = (
                len(rows)
                - int(by_kind[ErrorKind.NONE])
                - sum(counts[name] for name in _ERRORS.values())
            )
            by_quality = np.bincount(rows["quality"], minlength=256)
            counts["fallbacks"] = int(
                by_quality[[Quality.CONSTANT, Quality.LAST_GOOD, Quality.NO_DECISION]].sum()
            )
            rows = rows[good]
        self._window.add(Tally(**counts))
        if not answered:
            return
        tensors = self._tensors(rows)
        self._window.latency += histogram.count_latency(rows["latency_us"])
        self._count_features(tensors)
        scores = self._scores(tensors)
        if scores is not None:
            self._window.confidence += histogram.count_confidence(scores.max(axis=1))
        self._remember(rows, tensors)

    def _count_features(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """What a baseline's features raise costs the features, never the rest or the agent."""
        if self._baseline is None:
            return
        try:
            self._window.add_features(binning.count(self._baseline, tensors))
        except Exception as error:
            log.exception("features of %s are not counted any more", self.identity.model)
            reason = f"features are not counted: {type(error).__name__}: {error}"
            self.trouble = f"{self.identity.model} {self.identity.version}: {reason}"[:200]
            self._baseline = self._window.features = None

    def _scores(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """[rows, classes], or None without a classifier whose output is recorded."""
        classifier = self._manifest.classifier
        if classifier is None or classifier.output not in tensors:
            return None
        output = tensors[classifier.output]
        scores: NDArray[Any] = output.reshape(len(output), -1)
        return scores if scores.shape[1] == len(classifier.classes) else None

    def _remember(self, rows: Rows, tensors: Mapping[str, NDArray[Any]]) -> None:
        named = np.flatnonzero(rows["id"] != b"")
        if not len(named):
            return
        values = self._answers(tensors)
        if values is not None:
            pairs = zip(rows["id"][named].tolist(), values[named].tolist(), strict=True)
            self._memory.remember(self._author, pairs)

    def _answers(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        """What labels are held against: predicted classes, or the first output's first element."""
        if self._author.classes:
            scores = self._scores(tensors)
            return None if scores is None else predicted(scores)
        output = tensors.get(self._manifest.outputs[0].name)
        if output is None:
            return None
        first = output.reshape(len(output), -1)[:, :1]
        return np.asarray(first[:, 0], np.float64) if first.size else None

    def _feed_label(self, identifier: bytes, label: str) -> None:
        answered = self._memory.take(identifier)
        if answered is None or not self._judge(answered.author, answered.value, label):
            self._window.add(Tally(labels_unmatched=1))

    def _judge(self, author: Author, answer: float, label: str) -> bool:
        """Count a label for the version that answered; False when it means nothing to it."""
        if np.isnan(answer):
            return False
        if author.classes:
            truth = usable.class_index(label, author.classes)
            if truth is None:
                return False
            self._window_of(author.identity).add_class_label(truth, int(answer))
            return True
        try:
            value = float(label)
        except ValueError:
            return False
        if not np.isfinite([value, answer]).all():
            return False
        self._window_of(author.identity).add_value_label(value, answer)
        return True

    def _window_of(self, identity: ModelIdentity) -> OpenWindow:
        if identity.manifest == self.identity.manifest:
            return self._window
        if identity.manifest not in self._others:
            self._others[identity.manifest] = OpenWindow(identity, self._window.opened)
        return self._others[identity.manifest]


def _read(saved: bytes, known: Baseline | None) -> Summary | summary_wire.Unknown:
    """A saved window; without a baseline all but its features."""
    if known is not None:
        return summary_wire.decode(saved, known)
    header = summary_wire.peek(saved)
    return header if isinstance(header, summary_wire.Unknown) else header.summary


def _good(rows: Rows) -> NDArray[np.bool_]:
    """Rows the model itself answered."""
    return np.asarray(
        (rows["kind"] == RowKind.INFERENCE)
        & (rows["error"] == ErrorKind.NONE)
        & (rows["quality"] == Quality.GOOD)
    )
