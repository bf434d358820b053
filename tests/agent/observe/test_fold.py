"""Folding recorded rows: everything the worker recorded is counted, once, for its own version."""

from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from muster_agent.observe.fold import Fold
from muster_agent.observe.labels import LabelMemory
from muster_agent.worker.recorder import Recorder
from muster_agent.worker.ring import Ring, RingReader
from muster_agent.worker.rows import ErrorKind, Quality, RingLayout
from muster_protocol.signals import baseline, features
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import LabelErrors, Tally
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Build, Classifier, File, Golden, Manifest, Tensor
from muster_protocol.wire.messages import Stamp

CLASSES = ("cat", "dog", "eel")


def manifest(version: str, *, classifier: bool = True) -> Manifest:
    return Manifest(
        model="pets",
        version=version,
        created=0,
        inputs=(Tensor("x", "FP32", (-1, 4)),),
        outputs=(Tensor("scores", "FP32", (-1, 3)),),
        builds=(Build("onnx", "m.onnx", 1 << 20),),
        files=(File("m.onnx", 1, "00" * 32), File("golden.npz", 1, "11" * 32)),
        golden=Golden("golden.npz"),
        classifier=Classifier("scores", CLASSES) if classifier else None,
    )


def trained() -> Baseline:
    rng = np.random.default_rng(0)
    spec = (*features.elements("x", 4), *features.classifier("scores"))
    x, scores = rng.normal(size=(500, 4)), rng.dirichlet(np.ones(3), 500)
    return baseline.fit({"x": x, "scores": scores}, spec)


BASELINE = trained()


def stamp(seconds: float) -> Stamp:
    return Stamp(b"boot", seconds, 1e9 + seconds, "floor")


@dataclass
class Slot:
    """One version's worker, its ring and its fold, as supervisor and worker hold them."""

    path: Path
    listing: Manifest
    digest: str
    memory: LabelMemory = field(default_factory=LabelMemory)
    fitted: Baseline | None = BASELINE
    capacity: int = 256
    cursor: int = 0

    def __post_init__(self) -> None:
        layout = RingLayout.of(self.listing, self.digest)
        self.recorder = Recorder(Ring.create(self.path, layout, self.capacity), layout)
        self.ring = RingReader(self.path)
        self.fold = self.fresh()

    def fresh(self) -> Fold:
        return Fold(self.listing, self.digest, self.fitted, stamp(0), self.memory)

    def answer(self, names: list[str], scores: np.ndarray, *, x: float = 0.0) -> None:
        for name, row in zip(names, np.asarray(scores, np.float32), strict=True):
            self.recorder.answered(
                name, 1, {"x": np.full((1, 4), x, np.float32)}, {"scores": row[None]}, 0, 250_000
            )

    def fail(self, error: ErrorKind, quality: Quality = Quality.UNANSWERED) -> None:
        inputs = {"x": np.zeros((1, 4), np.float32)}
        self.recorder.answered("", 1, inputs, {}, 0, 1000, error=error, quality=quality)

    def label(self, name: str, label: str) -> None:
        self.recorder.labelled(name, label, monotonic_ns=0)

    def read(self, rows_max: int = 4096) -> None:
        result = self.ring.read(self.cursor, rows_max)
        self.fold.feed(result.rows, result.overrun)
        self.cursor = result.cursor


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    return Slot(tmp_path / "a.ring", manifest("1"), "aa" * 32)


SURE_DOG = [[0.1, 0.8, 0.1]]


def test_answers_are_counted_with_their_latency_features_and_confidence(slot: Slot) -> None:
    slot.answer(["a", "b", "c"], [[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], x=0.5)
    slot.read()
    (window,) = slot.fold.close(stamp(300))
    assert window.counts == Tally(inferences=3)
    assert (window.opened, window.closed) == (stamp(0), stamp(300))
    assert window.latency.sum() == 3
    assert 200e-6 < window.latency_quantile(0.5) < 300e-6
    assert window.confidence.nonzero()[0].tolist() == [10, 16, 18]
    assert window.features is not None
    assert window.features.rows == 3
    np.testing.assert_allclose(window.features.mean()[:4], 0.5)
    assert slot.fold.empty


def test_what_the_model_did_not_answer_is_no_feature_but_an_error_or_a_fallback(slot: Slot) -> None:
    slot.answer(["a"], SURE_DOG)
    slot.fail(ErrorKind.RUN_FAILED)
    slot.fail(ErrorKind.BAD_OUTPUT, Quality.CONSTANT)
    slot.fail(ErrorKind.NO_MODEL, Quality.LAST_GOOD)
    slot.fail(ErrorKind.NO_MODEL, Quality.NO_DECISION)
    slot.recorder.refused("z", 0, 1000)
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert window.counts == Tally(
        inferences=1, fallbacks=3, errors_input=1, errors_run=1, errors_output=1, errors_no_model=2
    )
    assert window.features is not None
    assert window.features.rows == 1
    assert window.latency.sum() == 1


def test_labels_join_by_inference_id_once(slot: Slot) -> None:
    slot.answer(["a", "b"], [SURE_DOG[0], [0.6, 0.2, 0.2]])
    slot.label("a", "dog")
    slot.label("b", "eel")
    slot.label("a", "dog")
    slot.label("never seen", "cat")
    slot.label("b", "no class")
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert window.confusion == {(1, 1): 1, (2, 0): 1}
    counts = window.counts
    assert (counts.labels_right, counts.labels_wrong, counts.labels_unmatched) == (1, 1, 3)
    assert window.accuracy == 0.5


def test_a_label_may_be_a_class_by_its_index(slot: Slot) -> None:
    slot.answer(["a", "b", "c"], SURE_DOG * 3)
    for identifier, label in [("a", "1"), ("b", "2.0"), ("c", "3")]:
        slot.label(identifier, label)
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert window.confusion == {(1, 1): 1, (2, 1): 1}
    assert window.counts.labels_unmatched == 1


def test_a_label_after_a_swap_counts_for_the_version_that_answered(tmp_path: Path) -> None:
    memory = LabelMemory()
    old = Slot(tmp_path / "old.ring", manifest("1"), "aa" * 32, memory)
    new = Slot(tmp_path / "new.ring", manifest("2"), "bb" * 32, memory)
    old.answer(["a"], SURE_DOG)
    old.read()
    new.answer(["b"], SURE_DOG)
    new.label("a", "cat")
    new.label("b", "dog")
    new.read()
    own, other = new.fold.close(stamp(9))
    assert (own.version, own.confusion) == ("2", {(1, 1): 1})
    assert (other.version, other.manifest, other.confusion) == ("1", "aa" * 32, {(0, 1): 1})
    assert other.counts == Tally(labels_wrong=1)
    assert len(new.fold.close(stamp(10))) == 1


def test_labels_of_a_regression_are_errors_in_its_unit(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "r.ring", manifest("1", classifier=False), "aa" * 32, fitted=None)
    slot.answer(["a", "b"], [[2.0, 0, 0], [5.0, 0, 0]])
    slot.label("a", "1.5")
    slot.label("b", "8")
    slot.label("b", "not a number")
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert window.label_errors == LabelErrors(2, 3.5, 9.25)
    assert window.counts.labels_unmatched == 1
    assert window.features is None


def test_the_memory_of_ids_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "m.ring", manifest("1"), "aa" * 32, LabelMemory(remembered_max=3))
    slot.answer([f"{n}" for n in range(5)], SURE_DOG * 5)
    slot.read()
    assert len(slot.memory) == 3
    slot.label("1", "dog")
    slot.label("4", "dog")
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert (window.counts.labels_right, window.counts.labels_unmatched) == (1, 1)


def test_rows_lost_in_the_ring_are_reported(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "o.ring", manifest("1"), "aa" * 32, capacity=64)
    slot.answer([""] * 100, SURE_DOG * 100)
    slot.read()
    (window,) = slot.fold.close(stamp(1))
    assert window.counts.overruns > 0
    assert window.counts.inferences + window.counts.overruns == 100


def test_a_baseline_that_does_not_fit_the_model_stops_features_only(tmp_path: Path) -> None:
    wide = baseline.fit({"x": np.ones((5, 9))}, features.elements("x", 9))
    slot = Slot(tmp_path / "w.ring", manifest("1"), "aa" * 32, fitted=wide)
    slot.answer(["a"], SURE_DOG)
    slot.read()
    assert "element 4 of 'x', which has 4 per row" in slot.fold.trouble
    (window,) = slot.fold.close(stamp(1))
    assert window.counts.inferences == 1
    assert window.features is None


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_restart_anywhere_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The supervisor dies and resumes from its last commit; the ring kept what came after."""
    slot = Slot(tmp_path_factory.mktemp("ring") / "a.ring", manifest("1"), "aa" * 32)
    committed = (slot.fold.save(), slot.cursor)
    windows = []
    answered = labelled = again = 0
    for step in data.draw(st.lists(st.sampled_from("aldrscx"), max_size=30)):
        if step == "a":
            slot.answer([f"{answered}"], SURE_DOG, x=float(answered))
            answered += 1
        elif step == "l" and labelled < answered:
            slot.label(f"{labelled}", "dog")
            labelled += 1
        elif step == "d" and labelled:
            slot.label("0", "dog")
            again += 1
        elif step == "r":
            slot.read(rows_max=data.draw(st.integers(1, 5)))
        elif step == "s":
            committed = (slot.fold.save(), slot.cursor)
        elif step == "c":
            windows += slot.fold.close(stamp(1))
            committed = (slot.fold.save(), slot.cursor)
        elif step == "x":
            slot.memory = LabelMemory()
            slot.fold = slot.fresh()
            slot.fold.restore(committed[0])
            slot.cursor = committed[1]
            slot.fold.recall(slot.ring.read(0, slot.cursor).rows)
    slot.read()
    windows += slot.fold.close(stamp(2))
    total = sum((window.counts for window in windows), Tally())
    assert total == Tally(inferences=answered, labels_right=labelled, labels_unmatched=again)
    rows = sum(window.features.rows for window in windows if window.features)
    assert rows == answered
    sums = sum(window.features.total[0] for window in windows if window.features)
    want = sum(range(answered)) - answered * BASELINE.mean[0]
    assert sums == pytest.approx(want)


def test_a_saved_window_of_another_version_is_refused(tmp_path: Path, slot: Slot) -> None:
    other = Slot(tmp_path / "b.ring", manifest("2"), "bb" * 32)
    with pytest.raises(ProtocolError, match="not a saved window of manifest bbbb"):
        other.fold.restore(slot.fold.save())
    with pytest.raises(ProtocolError, match="not a saved window"):
        slot.fold.restore(b"noise")


def test_labels_that_were_counted_before_a_restart_are_not_counted_again(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "a.ring", manifest("1"), "aa" * 32)
    slot.answer(["a", "b"], SURE_DOG * 2)
    slot.label("a", "dog")
    slot.read()
    saved = slot.fold.save()
    slot.memory = LabelMemory()  # The agent is started again: it remembers what the ring holds.
    slot.fold = slot.fresh()
    slot.fold.restore(saved)
    slot.fold.recall(slot.ring.read(0, slot.cursor).rows)
    slot.label("a", "dog")
    slot.label("b", "dog")
    slot.read()
    (window,) = slot.fold.close(stamp(300))
    assert window.counts == Tally(inferences=2, labels_right=2, labels_unmatched=1)
