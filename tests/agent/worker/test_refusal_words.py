"""A refusal's words are the same whatever a model computed: nothing rides home on them.

They leave the device, and the hub before anybody approved the model. Each pair of models here
differs in one number only, which stands for what a model might have read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from muster_agent.runtimes.base import without_numbers
from muster_agent.worker.events import Failed
from muster_agent.worker.watch import describe_end
from muster_protocol.wire.errors import Refusal
from support.models import graph_onnx, write_bundle
from support.workers import WAIT_SECONDS, Workers

SECRETS = (17, 208, 4096)


def model(secret: int, *nodes: Any, batch: Any = "n", width: Any = 3, **initializers: Any) -> bytes:
    return graph_onnx(
        list(nodes),
        inputs=[("x", TensorProto.FLOAT, [batch, 4])],
        outputs=[("probabilities", TensorProto.FLOAT, [batch, width])],
        initializers={"secret": np.array([secret], np.int64), **initializers},
    )


def in_the_output(secret: int) -> bytes:
    """The number itself, as an answer that the golden vectors don't expect."""
    return model(
        secret,
        helper.make_node("Cast", ["secret"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["x", "zero"], ["none"]),
        helper.make_node("Add", ["none", "number"], ["probabilities"]),
        zero=np.zeros((4, 3), np.float32),
    )


def in_how_many_values_differ(secret: int) -> bytes:
    return model(
        secret,
        helper.make_node("Gemm", ["x", "zero"], ["none"]),
        helper.make_node("Less", ["places", "secret"], ["which"]),
        helper.make_node("Cast", ["which"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["none", "ones"], ["probabilities"]),
        zero=np.zeros((4, 3), np.float32), places=np.array([0, 100, 1000], np.int64),
    )  # fmt: skip


def in_the_outputs_shape(secret: int) -> bytes:
    return model(
        secret,
        helper.make_node("Shape", ["x"], ["shape"], end=1),
        helper.make_node("Concat", ["shape", "secret"], ["wanted"], axis=0),
        helper.make_node("ConstantOfShape", ["wanted"], ["zeros"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], axes=[1]),
        helper.make_node("Add", ["zeros", "largest"], ["probabilities"]),
        width="m",
    )


def in_an_index(secret: int) -> bytes:
    """Out of bounds when it runs: the runtime names the index."""
    return model(
        secret,
        helper.make_node("Shape", ["x"], ["rows"], end=1),
        helper.make_node("Mul", ["rows", "secret"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["picked"]),
        helper.make_node("Gemm", ["x", "zero"], ["none"]),
        helper.make_node("Add", ["none", "picked"], ["probabilities"]),
        zero=np.zeros((4, 3), np.float32), table=np.zeros((2, 3), np.float32),
    )  # fmt: skip


def in_an_index_known_at_once(secret: int) -> bytes:
    """The same, folded while the model is loaded."""
    return model(
        secret,
        helper.make_node("Gather", ["table", "secret"], ["picked"]),
        helper.make_node("Gemm", ["x", "zero"], ["none"]),
        helper.make_node("Add", ["none", "picked"], ["probabilities"]),
        zero=np.zeros((4, 3), np.float32), table=np.zeros((2, 3), np.float32),
    )  # fmt: skip


def in_a_shape_that_does_not_fit(secret: int) -> bytes:
    return model(
        secret,
        helper.make_node("Reshape", ["x", "secret"], ["long"]),
        helper.make_node("Gemm", ["x", "zero"], ["none"]),
        helper.make_node("ReduceSum", ["long"], ["sum"], keepdims=0),
        helper.make_node("Add", ["none", "sum"], ["probabilities"]),
        zero=np.zeros((4, 3), np.float32),
    )


WAYS = [
    in_the_output, in_how_many_values_differ, in_the_outputs_shape, in_an_index,
    in_an_index_known_at_once, in_a_shape_that_does_not_fit,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda each: each.__name__)
def test_a_refusal_says_the_same_whatever_the_model_computed(way: Any, tmp_path: Path) -> None:
    golden = {
        "input:x": np.eye(4, dtype=np.float32),
        "output:probabilities": np.full((4, 3), -1, np.float32),
    }
    said = set()
    with Workers(tmp_path) as slot:
        for secret in SECRETS:
            bundle = tmp_path / str(secret)
            manifest, sha256 = write_bundle(
                bundle, runtimes=("onnx",), files={"onnx": way(secret)}, golden=golden
            )
            worker = slot.start(bundle, manifest, sha256)
            event = slot.events[worker.spec.worker_id].get(timeout=WAIT_SECONDS)
            assert isinstance(event, Failed), event
            assert event.refusal in {Refusal.GOLDEN_MISMATCH, Refusal.LOAD_FAILED}, event
            said.add((event.refusal, event.detail))
    assert len(said) == 1, said


def test_last_words_on_standard_error_are_told_without_their_numbers() -> None:
    tail = b"2026-11-30 [E:onnxruntime] ExecuteKernel idx=208 -1.5e+3 must be in [-2,1]\n"
    assert describe_end(-11, tail) == (
        "killed by SIGSEGV: ### [E:onnxruntime] ExecuteKernel idx=# # must be in [#]"
    )


@pytest.mark.parametrize(
    ("text", "without"),
    [("x", "x"), ("Gemm_12: {1,208}", "Gemm_#: {#}"), ("-0.25e-3", "#"), ("a1b2", "a#b#")],
)
def test_numbers_in_words(text: str, without: str) -> None:
    assert without_numbers(text) == without


def test_numbers_of_the_file_and_of_the_request_stay_and_no_other() -> None:
    kept = (
        "Unsupported model IR version: 99, max supported IR version: 14",
        "Got invalid dimensions for input: x for the following indices index: 1 Got: 9 Expected: 4",
        "Invalid rank for input: x Got: 3 Expected: 2",
        "Didn't find op for builtin opcode 'CONV_2D' version '7'",
    )
    for words in kept:
        assert without_numbers(f"{words} idx=4711") == f"{words} idx=#"
    assert without_numbers("index: 1 Got: 9 Expected: 4") == "index: # Got: # Expected: #"
