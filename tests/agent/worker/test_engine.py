"""The engine: answers, fallbacks, and exactly one row for each batch element."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster_agent import runtimes
from muster_agent.runtimes.base import Array, ModelError
from muster_agent.worker.binding import bound
from muster_agent.worker.engine import Engine, NoAnswer
from muster_agent.worker.fallback import FallbackContract, seed_last_good
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.rows import ErrorKind, Quality, RowKind
from muster_agent.worker.startup import open_engine
from muster_agent.worker.tensors import InvalidInput
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.manifest import Fallback, Tensor
from support.models import dense_onnx, softmax, weights, write_bundle

X = np.array([[1, 2, 3, 4]], np.float32)
FALLBACKS = (
    Fallback("zero", "constant", {"probabilities": [1.0, 0.0, 0.0]}),
    Fallback("last", "last_good", ttl_seconds=10.0),
    Fallback("none", "no_decision"),
)


class Clock:
    """Monotonic nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> int:
        return int(self.seconds * 1e9)


class FakeModel:
    """A model that can be told to fail or to answer in a wrong shape."""

    inputs = (Tensor("x", "FP32", (-1, 4)),)
    outputs = (Tensor("probabilities", "FP32", (-1, 3)),)

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.columns = 3

    def keep(self, names: Sequence[str]) -> None:
        """It has one only."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self.fault is not None:
            raise self.fault
        return {"probabilities": np.full((len(inputs["x"]), self.columns), 0.5, np.float32)}


class Rig:
    def __init__(self, directory: Path, fallback: str | None, *, model: bool = True) -> None:
        self.manifest, sha256 = write_bundle(directory, fallbacks=FALLBACKS)
        self.ring = Ring.create(
            directory / "r.ring", RingLayout.of(self.manifest, sha256), capacity_rows=100
        )
        self.model, self.clock = FakeModel(), Clock()
        self.engine = Engine(
            self.manifest,
            self.model if model else None,
            ring=self.ring,
            fallback=FallbackContract(self.manifest, fallback) if fallback else None,
            monotonic_ns=self.clock,
        )

    def rows(self) -> np.ndarray:
        return self.ring.read().rows


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, None)
    yield made
    made.ring.close()


def test_a_bundle_runs_in_a_program_of_ones_own(tmp_path: Path) -> None:
    manifest, sha256 = write_bundle(tmp_path)
    ring = Ring.create(tmp_path / "r.ring", RingLayout.of(manifest, sha256), 10)
    with open_engine(tmp_path, ring=ring) as engine:
        answer = engine.infer({"x": X}, identifier="a")
        np.testing.assert_allclose(
            answer.outputs["probabilities"], softmax(X, *weights()), atol=1e-6
        )
        assert answer.quality is Quality.GOOD
        assert ring.read().rows["id"].tolist() == [b"a"]


def test_every_element_of_a_batch_is_one_row_with_its_own_bytes(rig: Rig) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    rig.engine.infer({"x": x}, identifier="b")
    rig.engine.infer({"x": np.asfortranarray(x)}, identifier="c")
    rows = rig.rows()
    assert rows["id"].tolist() == [b"b#0", b"b#1", b"b#2", b"c#0", b"c#1", b"c#2"]
    np.testing.assert_array_equal(rig.ring.layout.input_arrays(rows)["x"], [*x, *x])
    assert rig.ring.layout.output_arrays(rows)["probabilities"].shape == (6, 3)
    assert rig.engine.recorder.inferences == 6


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "input 'x' is missing"),
        ({"x": X, "z": X}, "no input 'z'"),
        ({"x": X.astype(np.float64)}, "must be FP32, not float64"),
        ({"x": X[0]}, r"must have shape \[-1, 4\], not \[4\]"),
        ({"x": X[:, :3]}, r"must have shape \[-1, 4\], not \[1, 3\]"),
        ({"x": X[:0]}, r"must have shape \[-1, 4\], not \[0, 4\]"),
    ],
)
def test_inputs_that_do_not_fit_are_one_invalid_row(
    rig: Rig, inputs: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        rig.engine.infer(inputs, identifier="bad")
    rows = rig.rows()
    assert rows["error"].tolist() == [ErrorKind.INVALID_INPUT]
    assert rows["id"].tolist() == [b"bad"]
    assert rig.engine.recorder.invalid == 1
    assert rig.engine.recorder.inferences == 0


@pytest.mark.parametrize("fault", [ModelError("it broke"), MemoryError()])
def test_without_a_fallback_a_failing_model_is_an_error_row_and_no_answer(
    rig: Rig, fault: Exception
) -> None:
    rig.model.fault = fault
    with pytest.raises(NoAnswer):
        rig.engine.infer({"x": X})
    rows = rig.rows()
    assert rows["error"].tolist() == [ErrorKind.RUN_FAILED]
    assert rows["quality"].tolist() == [Quality.UNANSWERED]
    np.testing.assert_array_equal(rig.ring.layout.input_arrays(rows)["x"], X)
    assert not rig.ring.layout.output_arrays(rows)["probabilities"].any()
    assert (rig.engine.recorder.errors, rig.engine.recorder.fallbacks) == (1, 0)


def test_an_output_of_another_shape_than_declared_is_a_bad_output(rig: Rig) -> None:
    rig.model.columns = 4
    with pytest.raises(NoAnswer, match="shape its manifest declares"):
        rig.engine.infer({"x": X})
    assert rig.rows()["error"].tolist() == [ErrorKind.BAD_OUTPUT]


def test_a_constant_answers_every_element_when_the_model_fails(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "zero")
    rig.model.fault = ModelError("it broke")
    answer = rig.engine.infer({"x": np.repeat(X, 2, axis=0)})
    assert answer.quality is Quality.CONSTANT
    assert answer.outputs["probabilities"].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert rig.rows()["quality"].tolist() == [Quality.CONSTANT] * 2
    assert (rig.engine.recorder.errors, rig.engine.recorder.fallbacks) == (2, 2)
    rig.ring.close()


def test_the_last_good_answer_is_good_for_its_time_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "last")
    rig.engine.infer({"x": X})
    rig.model.fault = ModelError("it broke")
    rig.clock.seconds += 10.0
    answer = rig.engine.infer({"x": X})
    assert answer.quality is Quality.LAST_GOOD
    assert answer.outputs["probabilities"].tolist() == [[0.5, 0.5, 0.5]]
    rig.clock.seconds += 0.001
    answer = rig.engine.infer({"x": X})
    assert answer.quality is Quality.NO_DECISION
    assert answer.outputs == {}
    rig.ring.close()


def test_a_worker_without_a_model_takes_the_last_good_answer_from_the_ring_before(
    tmp_path: Path,
) -> None:
    before = Rig(tmp_path / "before", None)
    before.engine.infer({"x": X})
    before.model.fault = ModelError("it broke")
    with pytest.raises(NoAnswer):
        before.engine.infer({"x": X})
    before.ring.close()
    after = Rig(tmp_path / "after", "last", model=False)
    assert after.engine.fallback is not None
    seed_last_good(after.engine.fallback, after.manifest, tmp_path / "missing.ring")
    assert after.engine.infer({"x": X}).quality is Quality.NO_DECISION
    seed_last_good(after.engine.fallback, after.manifest, tmp_path / "before" / "r.ring")
    answer = after.engine.infer({"x": X})
    assert answer.quality is Quality.LAST_GOOD
    assert answer.outputs["probabilities"].tolist() == [[0.5, 0.5, 0.5]]
    assert after.rows()["error"].tolist() == [ErrorKind.NO_MODEL] * 2
    after.ring.close()


def test_only_a_fallback_of_the_signed_manifest_can_be_chosen(tmp_path: Path) -> None:
    manifest, _ = write_bundle(tmp_path, fallbacks=FALLBACKS)
    with pytest.raises(ProtocolError, match="no fallback 'invented'"):
        FallbackContract(manifest, "invented")
    short = Fallback("short", "constant", {"probabilities": [1.0]})
    manifest, _ = write_bundle(tmp_path, fallbacks=(short,))
    with pytest.raises(ProtocolError, match="a constant of 1 numbers can't be output"):
        FallbackContract(manifest, "short")


def test_a_label_is_a_row_and_its_length_is_bounded(rig: Rig) -> None:
    rig.engine.label("a", "2")
    rows = rig.rows()
    assert rows["kind"].tolist() == [RowKind.LABEL]
    assert rig.ring.layout.labels(rows) == [(b"a", "2")]
    for bad in ("x" * 65, "a\0b"):
        with pytest.raises(LimitError, match="the label of 'a'"):
            rig.engine.recorder.labelled("a", bad, monotonic_ns=0)


@pytest.mark.parametrize("label", ["7", "-1", "two", "", "nan"])
def test_a_label_that_means_nothing_to_the_model_is_refused_and_not_recorded(rig: Rig, label):
    with pytest.raises(ProtocolError, match="is no class of dense 1"):
        rig.engine.label("a", label)
    assert not len(rig.rows())


@pytest.mark.parametrize("label", ["1.5", "-3", "1e3"])
def test_a_model_without_classes_takes_numbers_as_labels(tmp_path: Path, label) -> None:
    manifest, _ = write_bundle(tmp_path, classifier=None)
    engine = Engine(manifest, None)
    engine.label("a", label)
    for bad in ("cat", "nan", "inf", ""):
        with pytest.raises(ProtocolError, match="is no number"):
            engine.label("a", bad)
    assert engine.recorder.labels == 1


def test_a_model_with_other_names_and_a_batch_of_one_answers_whole_batches(tmp_path: Path) -> None:
    w, b = weights()
    (tmp_path / "m.onnx").write_bytes(dense_onnx(w, b, batch=1))
    model = bound(
        runtimes.load("onnx", tmp_path / "m.onnx"),
        (Tensor("image", "FP32", (-1, 4)),),
        (Tensor("scores", "FP32", (-1, 3)),),
    )
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(model.run({"image": x})["scores"], softmax(x, w, b), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ((), (("y", "FP32", (-1, 3)),), "declares 0 inputs, the model has 1"),
        ((("x", "FP32", (-1, 5)),), (("y", "FP32", (-1, 3)),), "the manifest says FP32"),
        ((("x", "INT8", (-1, 4)),), (("y", "FP32", (-1, 3)),), "the manifest says INT8"),
        ((("x", "FP32", (-1, 4)),), (("y", "FP32", (3,)),), "output 'y'"),
        ((("x", "FP32", (-1, 4)),), (("y", "FP32", (-1, 3)),) * 2, "declares 2 outputs"),
    ],
)
def test_a_model_that_is_not_its_manifest_is_refused(
    inputs: tuple[Any, ...], outputs: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        bound(
            FakeModel(),
            tuple(Tensor(*each) for each in inputs),
            tuple(Tensor(*each) for each in outputs),
        )
