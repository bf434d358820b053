"""Folding a challenger's ring: both answers to the same input, and the labels that come for them.

A window of a challenger counts only comparisons. It carries the challenger's manifest and adds
nothing to what counts of models that serve. Pure.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_agent.observe.labels import Author, LabelMemory
from muster_agent.observe.window import ModelIdentity, OpenWindow
from muster_agent.worker.rows import ErrorKind, RingLayout, RowKind, Rows
from muster_protocol.signals import summary_wire
from muster_protocol.signals.features import predicted
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import usable
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Agreement, Manifest
from muster_protocol.wire.messages import Stamp

Tensors = Mapping[str, NDArray[Any]]
REMEMBERED_MAX = 16_384


class PairFold:
    """Adds one challenger's ring up, window by window; implements ``telemetry.Fold``."""

    def __init__(
        self,
        champion: tuple[Manifest, str],
        challenger: tuple[Manifest, str],
        opened: Stamp,
        *,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        """Manifests come with their SHA-256. Labels of the last ``remembered_max`` ids count."""
        self.layout = RingLayout.pairs(RingLayout.of(*champion), *challenger)
        self._identity = ModelIdentity.of(*challenger)
        self._agreement = challenger[0].agreement or Agreement()
        self._authors = (
            Author(ModelIdentity.of(*champion), _classes(champion[0])),
            Author(self._identity, _classes(challenger[0])),
        )
        self._manifests = champion[0], challenger[0]
        self._memories = LabelMemory(remembered_max), LabelMemory(remembered_max)
        self._window = OpenWindow(self._identity, opened)

    @property
    def empty(self) -> bool:
        return self._window.empty

    def feed(self, rows: Rows, overrun: int = 0) -> None:
        """Count rows read from the ring, and how many were lost before them."""
        pairs = rows[rows["kind"] == RowKind.INFERENCE]
        answered = pairs["error"] == ErrorKind.NONE
        failed = len(pairs) - int(answered.sum())
        disagreed = int((~self._agree(pairs[answered])).sum()) + failed
        self._window.add(
            Tally(
                overruns=overrun, compared=len(pairs), disagreed=disagreed, compared_failed=failed
            )
        )
        self._remember(pairs[answered])
        for identifier, label in self.layout.labels(rows):
            self._label(identifier, label)

    def recall(self, rows: Rows) -> None:
        """Remember the ids of rows counted before a restart, without counting them again."""
        pairs = rows[(rows["kind"] == RowKind.INFERENCE) & (rows["error"] == ErrorKind.NONE)]
        self._remember(pairs)
        for identifier, _ in self.layout.labels(rows):
            for memory in self._memories:
                memory.take(identifier)

    def add_cpu(self, seconds: float, joules: float) -> None:
        self._window.cpu_seconds += seconds
        self._window.energy_joules += joules

    def close(self, closed: Stamp) -> list[Summary]:
        """The window's summary; a new window opens at ``closed``."""
        summary = self._window.summary(closed)
        self._window = OpenWindow(self._identity, closed)
        return [summary]

    def committed(self) -> None:
        """Nothing was found in it that isn't in the window itself."""

    def save(self) -> bytes:
        return summary_wire.encode(self._window.summary(self._window.opened), exact=True)

    def restore(self, saved: bytes) -> None:
        """Continue a saved window; raises ProtocolError when it isn't one of this challenger."""
        summary = summary_wire.decode(saved, None)
        if not isinstance(summary, Summary) or summary.manifest != self._identity.manifest:
            raise ProtocolError(f"not a saved window of manifest {self._identity.manifest[:12]}")
        self._window = OpenWindow.resumed(summary)

    def _agree(self, pairs: Rows) -> NDArray[np.bool_]:
        """[pairs]: the same class by name, or all numbers of the first output near each other."""
        if not len(pairs):
            return np.zeros(0, np.bool_)
        ours, theirs = self._named(pairs)
        if ours is not None and theirs is not None:
            return np.asarray(ours == theirs)
        first, second = (_first(answer) for answer in self._answers(pairs))
        if first is None or second is None or first.shape != second.shape:
            return np.zeros(len(pairs), np.bool_)
        with np.errstate(invalid="ignore"):  # Infinities and what is no number are near nothing.
            limit = self._agreement.absolute + self._agreement.relative * np.abs(first)
            near = np.abs(second - first) <= limit
        return np.asarray((near | (first == second)).all(axis=1))

    def _answers(self, pairs: Rows) -> tuple[Tensors, Tensors]:
        """The champion's and the challenger's."""
        return self.layout.input_arrays(pairs), self.layout.output_arrays(pairs)

    def _named(self, pairs: Rows) -> list[NDArray[Any] | None]:
        """Predicted classes by name; None for a model that names none."""
        return [
            _class_names(manifest, tensors)
            for manifest, tensors in zip(self._manifests, self._answers(pairs), strict=True)
        ]

    def _remember(self, pairs: Rows) -> None:
        named = np.flatnonzero(pairs["id"] != b"")
        if not len(named):
            return
        pairs = pairs[named]
        values = [
            _values(manifest, tensors)
            for manifest, tensors in zip(self._manifests, self._answers(pairs), strict=True)
        ]
        if any(value is None for value in values):
            return
        ids = pairs["id"].tolist()
        for memory, author, answers in zip(self._memories, self._authors, values, strict=True):
            assert answers is not None
            memory.remember(author, zip(ids, answers.tolist(), strict=True))

    def _label(self, identifier: bytes, label: str) -> None:
        champion, challenger = (memory.take(identifier) for memory in self._memories)
        if champion is None or challenger is None:
            return
        pair = champion, challenger
        if champion.author.classes and challenger.author.classes:
            truths = [usable.class_index(label, item.author.classes) for item in pair]
            if truths == [None, None] or np.isnan([item.value for item in pair]).any():
                return
            theirs, ours = (
                truth == int(item.value) for truth, item in zip(truths, pair, strict=True)
            )
        else:
            try:
                truth = float(label)
            except ValueError:
                return
            theirs_off, ours_off = (abs(item.value - truth) for item in pair)
            if not np.isfinite([theirs_off, ours_off]).all():
                return
            theirs, ours = theirs_off <= ours_off, ours_off <= theirs_off
        self._window.add(
            Tally(
                compared_labelled=1,
                compared_right=int(ours),
                compared_champion_right=int(theirs),
            )
        )


def _classes(manifest: Manifest) -> tuple[str, ...]:
    return manifest.classifier.classes if manifest.classifier else ()


def _scores(manifest: Manifest, tensors: Tensors) -> NDArray[Any] | None:
    """[rows, classes], or None without a classifier whose output is recorded."""
    classifier = manifest.classifier
    if classifier is None or classifier.output not in tensors:
        return None
    output = tensors[classifier.output]
    scores: NDArray[Any] = output.reshape(len(output), -1)
    return scores if scores.shape[1] == len(classifier.classes) else None


def _class_names(manifest: Manifest, tensors: Tensors) -> NDArray[Any] | None:
    scores = _scores(manifest, tensors)
    if scores is None:
        return None
    values = predicted(scores)
    names = np.array([*_classes(manifest), ""])  # NaN, of scores that are none, is no class
    return np.asarray(names[np.where(np.isnan(values), -1, values).astype(np.int64)])


def _values(manifest: Manifest, tensors: Tensors) -> NDArray[Any] | None:
    """What labels are held against: predicted classes, or the first output's first number."""
    if manifest.classifier is not None:
        scores = _scores(manifest, tensors)
        return None if scores is None else predicted(scores)
    output = tensors.get(manifest.outputs[0].name)
    if output is None:
        return None
    first = output.reshape(len(output), -1)[:, :1]
    return np.asarray(first[:, 0], np.float64) if first.size else None


def _first(tensors: Tensors) -> NDArray[np.float64] | None:
    """[rows, numbers] of the first output that is recorded."""
    output = next(iter(tensors.values()), None)
    if output is None:
        return None
    return np.asarray(output.reshape(len(output), -1), np.float64)
