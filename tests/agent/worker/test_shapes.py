"""Whatever a model's shape, it is proved, serves as JSON and as binary data, and is recorded."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from muster_agent.worker import oip, startup
from muster_agent.worker.api import HEADER_LENGTH, InferenceApi
from muster_agent.worker.bundle import OpenBundle, StartRefused
from muster_agent.worker.check import check
from muster_agent.worker.engine import Engine
from muster_agent.worker.http1 import BODY_BYTES_MAX, Request
from muster_agent.worker.ring import Ring
from muster_agent.worker.rows import RingLayout
from muster_agent.worker.tensors import request_bytes_max
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.tensors import ModelState, Quantisation, Tensor
from support import shapes
from support.models import graph_onnx, write_bundle
from support.shapes import Shaped
from wire_samples import MANIFEST_2


def ring_of(directory: Path, shaped: Shaped, **fields: Any) -> Ring:
    manifest, sha256 = shaped.write(directory, **fields)
    return Ring.create(directory / "r.ring", RingLayout.of(manifest, sha256), 64)


def opened(directory: Path, shaped: Shaped, **fields: Any) -> Engine:
    ring = ring_of(directory, shaped, **fields)
    return startup.open_engine(directory, runtime=shaped.runtime, ring=ring)


def ask(engine: Engine, inputs: Any, *, binary: bool) -> tuple[int, Any]:
    types = {tensor.name: tensor.datatype for tensor in engine.manifest.inputs}
    body, header = oip.encode_request(
        inputs, identifier="7", binary=binary, binary_outputs=binary, datatypes=types
    )
    headers = {} if header is None else {HEADER_LENGTH: str(header)}
    path = f"/v2/models/{engine.manifest.model}/infer"
    answer = InferenceApi(engine, "onnx")(Request("POST", path, headers, body, keep_alive=True))
    if answer.status != 200:
        return answer.status, json.loads(answer.body)["error"]
    length = dict(answer.headers).get("Inference-Header-Content-Length")
    return 200, oip.decode_response(answer.body, int(length) if length else None)


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_a_model_serves_with(shape: str, tmp_path: Path) -> None:
    shaped = shapes.SHAPES[shape]()
    engine = opened(tmp_path, shaped)
    for inputs, outputs in shaped.cases:
        for binary in (True, False):
            status, got = ask(engine, inputs, binary=binary)
            assert status == 200, got
            assert got.keys() == outputs.keys()
            for name, want in outputs.items():
                assert got[name].shape == want.shape
                np.testing.assert_allclose(got[name], want, rtol=1e-6)


def test_each_batch_element_is_a_row_wherever_the_batch_is(tmp_path: Path) -> None:
    model = graph_onnx(
        [shapes.node("Add", ["x", "t"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, [2, "b"]), ("t", TensorProto.FLOAT, [])],
        outputs=[("y", TensorProto.FLOAT, [2, "b"])],
    )
    x, t = np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array(10, np.float32)
    inputs = (Tensor("x", "FP32", (2, -1), batch_axis=1), Tensor("t", "FP32", ()))
    outputs = (Tensor("y", "FP32", (2, -1), batch_axis=1),)
    shaped = Shaped(model, inputs, outputs, [({"x": x, "t": t}, {"y": x + t})])
    engine = opened(tmp_path, shaped)
    engine.infer({"x": x, "t": t}, identifier="k")
    ring = engine.recorder.ring
    assert ring is not None
    rows = ring.read().rows
    assert [bytes(each) for each in rows["id"]] == [b"k#0", b"k#1", b"k#2"]
    assert ring.layout.input_arrays(rows)["x"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert ring.layout.input_arrays(rows)["t"].tolist() == [10, 10, 10]
    assert ring.layout.output_arrays(rows)["y"].tolist() == [[11, 14], [12, 15], [13, 16]]


def test_nothing_is_missing_where_the_manifest_does_not_allow_it(tmp_path: Path) -> None:
    engine = opened(tmp_path, shapes.gaps(missing=False))
    for binary in (True, False):
        status, said = ask(engine, {"x": np.array([[1, np.nan]], np.float32)}, binary=binary)
        assert (status, said) == (
            400,
            "input 'x' holds NaN or null, and its manifest allows no missing values",
        )
        assert ask(engine, {"x": np.array([[1, 3e38]], np.float32)}, binary=binary)[0] == 200
    # The quick way, of a request like the last, is no way round it.
    engine.infer({"x": np.ones((1, 2), np.float32)})
    assert ask(engine, {"x": np.array([[np.nan, 1]], np.float32)}, binary=True)[0] == 400


def test_a_request_above_the_largest_declared_shape_is_told_the_bound(tmp_path: Path) -> None:
    engine = opened(tmp_path, shapes.time_first())
    status, said = ask(engine, {"x": np.zeros((51, 1, 2), np.float32)}, binary=True)
    assert (status, said) == (
        413,
        "input 'x' must have shape [-1, -1, 2] of at most [50, 8, 2], not [51, 1, 2]",
    )


def test_a_batch_that_differs_between_inputs_is_refused(tmp_path: Path) -> None:
    engine = opened(tmp_path, shapes.many(2))
    inputs = {"x0": np.zeros((1, 1), np.float32), "x1": np.zeros((2, 1), np.float32)}
    assert ask(engine, inputs, binary=True) == (400, "the inputs' batch sizes differ: [1, 2]")


def test_clients_see_quantisation_and_bounds_in_the_models_metadata(tmp_path: Path) -> None:
    model = graph_onnx(
        [shapes.node("Identity", ["x"], ["y"])],
        inputs=[("x", TensorProto.INT8, ["n", 2])],
        outputs=[("y", TensorProto.INT8, ["n", 2])],
    )
    x = np.array([[1, 2]], np.int8)
    inputs = (Tensor("x", "INT8", (-1, 2), quantisation=Quantisation(0.5, 3)),)
    shaped = Shaped(model, inputs, (Tensor("y", "INT8", (-1, 2)),), [({"x": x}, {"y": x})])
    engine = opened(tmp_path, shaped)
    request = Request("GET", "/v2/models/shaped", {}, b"", keep_alive=True)
    described = json.loads(InferenceApi(engine, "onnx")(request).body)
    assert described["inputs"] == [
        {
            "name": "x",
            "datatype": "INT8",
            "shape": [-1, 2],
            "quantisation": {"scale": 0.5, "zero_point": 3},
        }
    ]


@pytest.mark.parametrize(
    ("tensor", "least", "most"),
    [
        (Tensor("x", "FP32", (-1, 4)), BODY_BYTES_MAX, BODY_BYTES_MAX),
        (Tensor("x", "BYTES", (1,)), BODY_BYTES_MAX, BODY_BYTES_MAX),
        (Tensor("x", "FP32", (-1, 4), shape_max=(8, 4)), MIB, 2 * MIB),
        (Tensor("x", "FP32", (1, 4)), MIB, 2 * MIB),
        (Tensor("x", "FP32", (-1, 3, 640, 640), shape_max=(4, 3, 640, 640)), 120 * MIB, 130 * MIB),
        (Tensor("x", "FP32", (-1, 3, 640, 640)), 30 * MIB, 33 * MIB),
        (Tensor("x", "FP32", (-1,), shape_max=(2**31 - 1,)), 1024 * MIB, 1024 * MIB),
    ],
)
def test_a_request_may_be_as_large_as_its_largest_declared_shape_needs(
    tensor: Tensor, least: int, most: int
) -> None:
    manifest = msgspec.structs.replace(MANIFEST_2, inputs=(tensor,))
    assert least <= request_bytes_max(manifest) <= most


def test_a_model_too_slow_or_too_large_at_its_largest_shape_is_refused_with_that_shape(
    tmp_path: Path,
) -> None:
    shaped = shapes.time_first()
    manifest, _ = shaped.write(tmp_path)
    with OpenBundle(tmp_path, manifest, manifest.builds[0]) as files:
        with pytest.raises(StartRefused, match=r"largest declared shape \(x \[50, 8, 2\]\) takes"):
            startup.prove(files, request_seconds=1e-9)
        _, facts = startup.prove(files, request_seconds=60)
    assert facts.largest_elements == 50 * 8 * 2
    assert facts.largest_ms > 0


def test_a_shape_that_the_manifest_promises_and_the_model_can_not_take_is_refused(
    tmp_path: Path,
) -> None:
    model = graph_onnx(
        [shapes.node("Add", ["x", "fixed"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["n", "m"])],
        outputs=[("y", TensorProto.FLOAT, ["n", 3])],
        initializers={"fixed": np.ones((1, 3), np.float32)},
    )
    x = np.ones((1, 3), np.float32)
    inputs = (Tensor("x", "FP32", (-1, -1), shape_max=(1, 7)),)
    outputs = (Tensor("y", "FP32", (-1, 3)),)
    shaped = Shaped(model, inputs, outputs, [({"x": x}, {"y": x + 1})])
    error = refused(tmp_path, shaped)
    assert error.refusal is Refusal.LOAD_FAILED
    assert "the largest declared shape (x [1, 7]) is not answered: the model failed" in str(error)


def test_a_model_that_answers_no_batch_of_two_is_refused_though_a_single_one_works(
    tmp_path: Path,
) -> None:
    model = graph_onnx(
        [shapes.node("Reshape", ["x", "shape"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["n", 2])],
        outputs=[("y", TensorProto.FLOAT, ["n", 2])],
        initializers={"shape": np.array([1, 2], np.int64)},
    )
    x = np.ones((1, 2), np.float32)
    tensors = (Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),)
    error = refused(tmp_path, Shaped(model, *tensors, [({"x": x}, {"y": x})]))
    assert "asked over HTTP as binary data, a batch of 2 is not answered" in str(error)


def refused(directory: Path, shaped: Shaped, **fields: Any) -> StartRefused:
    shaped.write(directory, **fields)
    with pytest.raises(StartRefused) as caught:
        startup.open_engine(directory, runtime=shaped.runtime)
    return caught.value


def test_a_model_that_remembers_and_does_not_say_so_is_refused_with_what_to_declare(
    tmp_path: Path,
) -> None:
    shaped = shapes.running_sum()
    error = refused(tmp_path, shaped._replace(cases=shaped.cases[:1]), version="2.0+1")
    assert error.refusal is Refusal.GOLDEN_MISMATCH
    assert 'Declare "state": {"kind": "internal"}' in str(error)


def test_a_model_that_draws_lots_is_refused_as_one_that_remembers(tmp_path: Path) -> None:
    model = graph_onnx(
        [
            shapes.node("RandomNormalLike", ["x"], ["noise"], scale=1.0),
            shapes.node("Mul", ["noise", "little"], ["less"]),
            shapes.node("Add", ["x", "less"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 2])],
        outputs=[("y", TensorProto.FLOAT, ["n", 2])],
        initializers={"little": np.array(1e-4, np.float32)},
    )
    x = np.ones((1, 2), np.float32)
    shaped = Shaped(
        model,
        (Tensor("x", "FP32", (-1, 2), missing=False),),
        (Tensor("y", "FP32", (-1, 2)),),
        [({"x": x}, {"y": x})],
    )
    error = refused(tmp_path, shaped)
    assert error.refusal is Refusal.GOLDEN_MISMATCH
    assert 'Declare "state": {"kind": "internal"}' in str(error)


def test_a_model_that_remembers_is_served_afresh_after_its_proof(tmp_path: Path) -> None:
    state = ModelState("internal", sessions="single")
    engine = opened(tmp_path, shapes.running_sum(state=state))
    answers = [engine.infer({"x": np.ones((1, 1), np.float32)}).outputs["sum"] for _ in range(3)]
    assert [float(each[0, 0]) for each in answers] == [1.0, 2.0, 3.0]


def remade(change: Any) -> bytes:
    model = onnx.load_from_string(shapes.wave().model)
    change(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda model: setattr(model, "ir_version", 99),
            r"max supported IR version \d+; this model has 99: set ir_version to",
        ),
        (
            lambda model: setattr(model.opset_import[0], "version", 99),
            r"max supported opset \d+; this model has 99: export it with opset",
        ),
        (
            lambda model: setattr(model.graph.node[0], "op_type", "Sorcery"),
            r"opset 17 has no operator Sorcery",
        ),
        (lambda model: model.graph.ClearField("node"), r"model\.onnx"),
    ],
)
def test_what_a_runtime_can_not_load_is_said_with_numbers_names_and_what_to_do(
    change: Any, words: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, shapes.wave()._replace(model=remade(change)))
    assert error.refusal is Refusal.LOAD_FAILED
    assert re.search(words, str(error)), error
    assert "/proc/" not in str(error)
    assert "onnxruntime_src" not in str(error)


@pytest.mark.system
@pytest.mark.parametrize(
    "shape", ["answers of variable length", "maps of texts", "a hundred inputs"]
)
def test_the_hubs_check_of_an_odd_shape_passes_in_an_isolated_process(
    shape: str, tmp_path: Path
) -> None:
    shapes.SHAPES[shape]().write(tmp_path)
    verdict = check(tmp_path)
    assert verdict.ok, verdict
    facts = verdict.builds[0].facts
    assert facts is not None
    assert facts.memory_bytes > 0


@pytest.mark.system
def test_the_hubs_check_finds_what_format_1_can_not_declare(tmp_path: Path) -> None:
    shaped = shapes.running_sum()
    golden = {"input:x": np.ones((1, 1), np.float32), "output:sum": np.ones((1, 1), np.float32)}
    write_bundle(
        tmp_path,
        runtimes=("tflite",),
        files={"tflite": shaped.model},
        golden=golden,
        tensors=(shaped.inputs, shaped.outputs),
        classifier=None,
    )
    verdict = check(tmp_path)
    assert not verdict.ok
    assert 'Declare "state": {"kind": "internal"} in its manifest, which needs format 2' in (
        verdict.builds[0].detail
    )
    # A device that has served such a version goes on after its agent's update.
    startup.open_engine(tmp_path, runtime="tflite")
