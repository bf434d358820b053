"""Models that don't look like the demo's: each packed, or refused with the words that help."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import muster_client
from muster_agent.worker.startup import open_engine
from muster_client.packing.explain import explained
from muster_protocol.signals.features import Image, Norm, Projection
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.tensors import Tensor
from support import models as fixtures

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
RANDOM = np.random.default_rng(5)


def written(folder, *nodes, inputs, outputs, initializers=None):
    data = fixtures.graph_onnx(nodes, inputs=inputs, outputs=outputs, initializers=initializers)
    (folder / "model.onnx").write_bytes(data)
    return folder / "model.onnx"


def packed(model, data=None, **options):
    return muster_client.pack(model, data, out=model.parent / "bundle", **options)


def codes(found):
    return {each.code for each in found.advice}


def iris(folder):
    """A classifier as converters write it by default: a label, and a map for each row."""
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "raw"], domain="ai.onnx.ml",
            coefficients=RANDOM.normal(size=12).tolist(), intercepts=[0.1, 0.2, 0.3],
            classlabels_strings=["a", "b", "c"], post_transform="SOFTMAX",
        ),
        helper.make_node("Normalizer", ["raw"], ["scores"], domain="ai.onnx.ml", norm="L1"),
        helper.make_node(
            "ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml",
            classlabels_strings=["a", "b", "c"],
        ),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", STRING, [None]),
            helper.make_value_info(
                "maps",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, None))
                ),
            ),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def test_a_zipmap_is_taken_out_and_its_classes_are_kept(tmp_path):
    found = packed(iris(tmp_path), RANDOM.normal(size=(400, 4)).astype(np.float32), shuffled=True)
    assert "zipmap" in codes(found)
    assert found.manifest.classifier.classes == ("a", "b", "c")
    assert [tensor.name for tensor in found.manifest.outputs] == ["label", "scores"]
    with open_engine(found.folder) as engine:
        answer = engine.infer({"x": np.zeros((2, 4), np.float32)}).outputs
        assert answer["label"].tolist() == [b"c", b"c"]
        np.testing.assert_allclose(answer["scores"].sum(axis=1), 1, rtol=1e-5)


def branches(folder):
    """What no shape inference sees through: branches of different rank."""

    def branch(name, *nodes):
        value = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([*nodes], name, [], [value])

    wide = branch("wide", helper.make_node("Identity", ["x"], ["wide"]))
    deep = branch("deep", helper.make_node("Unsqueeze", ["x", "last"], ["deep"]))
    model = written(
        folder,
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Less", ["most", "limit"], ["small"]),
        helper.make_node("If", ["small"], ["y"], then_branch=wide, else_branch=deep),
        inputs=[("x", FLOAT, ["n", 3])],
        outputs=[("y", FLOAT, ["n", 3])],
        initializers={"limit": np.array(1e9, np.float32), "last": np.array([2])},
    )
    loaded = onnx.load(model)
    loaded.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(loaded, model)
    return model


def test_outputs_without_dimensions_get_those_of_their_answers(tmp_path):
    found = packed(branches(tmp_path))
    assert found.manifest.outputs == (Tensor("y", "FP32", (-1, 3)),)
    assert "untyped" in codes(found)
    open_engine(found.folder).close()


def test_columns_of_several_inputs_are_found_by_name_words_too(tmp_path):
    model = written(
        tmp_path,
        helper.make_node("LabelEncoder", ["colour"], ["code"], domain="ai.onnx.ml",
                         keys_strings=["red", "blue"], values_floats=[1.0, 2.0]),
        helper.make_node("Add", ["code", "size"], ["y"]),
        inputs=[("colour", STRING, ["n", 1]), ("size", FLOAT, ["n", 1])],
        outputs=[("y", FLOAT, ["n", 1])],
    )  # fmt: skip
    (tmp_path / "t.csv").write_text("size;colour;y\n" + "1,5;red;2,5\n2,5;blue;4,5\n" * 50)
    found = packed(model, tmp_path / "t.csv", labels="y", shuffled=True)
    assert found.manifest.lineage.metrics == {"mean_absolute_error": 0.0}
    assert [feature.name for feature in found.baseline.features] == ["size", "y"]
    assert "not_watched" in codes(found)
    with open_engine(found.folder) as engine:
        inputs = {"colour": np.array([[b"blue"]], object), "size": np.ones((1, 1), np.float32)}
        assert engine.infer(inputs).outputs["y"].tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [((3, 8, 9), {Image}), ((8, 9, 1), {Image}), ((40, 40), {Norm, Projection})],
)
def test_what_is_large_is_watched_through_statistics(tmp_path, shape, kinds):
    model = written(
        tmp_path,
        helper.make_node("ReduceMean", ["x"], ["y"], axes=[*range(1, len(shape) + 1)], keepdims=0),
        inputs=[("x", FLOAT, ["n", *shape])],
        outputs=[("y", FLOAT, ["n"])],
    )
    found = packed(model, RANDOM.random((200, *shape)).astype(np.float32), shuffled=True)
    sources = {type(f.source) for f in found.baseline.features if f.source.tensor == "x"}
    assert sources == kinds
    assert found.manifest.outputs == (Tensor("y", "FP32", (-1,)),)


def test_side_files_travel_with_the_model(tmp_path):
    model = written(
        tmp_path,
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        inputs=[("x", FLOAT, ["n", 64])],
        outputs=[("y", FLOAT, ["n", 64])],
        initializers={"w": RANDOM.normal(size=(64, 64)).astype(np.float32)},
    )
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="weights.data")
    found = packed(model)
    assert {file.path for file in found.manifest.files} >= {"model.onnx", "weights.data"}
    open_engine(found.folder).close()
    (tmp_path / "weights.data").unlink()
    with pytest.raises(MusterError, match=r"lie in 'weights\.data', which isn't beside it"):
        packed(model)


def identity(**shapes):
    names = [*shapes]
    return {
        "inputs": [(name, FLOAT, shape) for name, shape in shapes.items()],
        "outputs": [(f"{name}_out", FLOAT, shape) for name, shape in shapes.items()],
    }, [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]


def custom(folder):
    graph = helper.make_graph(
        [helper.make_node("Magic", ["x"], ["y"], domain="acme")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", FLOAT, [None, 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def newer(folder):
    model = iris(folder)
    loaded = onnx.load(model)
    loaded.ir_version = 90
    model.write_bytes(loaded.SerializeToString())
    return model


def restless(folder):
    return written(
        folder,
        helper.make_node("RandomNormalLike", ["x"], ["y"]),
        inputs=[("x", FLOAT, ["n", 2])],
        outputs=[("y", FLOAT, ["n", 2])],
    )


def no_model(folder):
    (folder / "model.onnx").write_bytes(b"\x08\x08garbage")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (custom, "export it without custom operators"),
        (newer, r"IR version 90, this ONNX Runtime knows up to \d+: install a newer"),
        (restless, "answered the same input differently .* export it with the state"),
        (no_model, "not an ONNX model"),
    ],
)
def test_what_no_device_could_run_is_refused_with_what_to_do(tmp_path, make, says):
    with pytest.raises(MusterError, match=says):
        packed(make(tmp_path))
    assert not (tmp_path / "bundle").exists()


def test_a_detector_whose_answers_vary_is_served_an_image_at_a_time(tmp_path):
    model = written(
        tmp_path,
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Relu", ["x"], ["y"]),
        inputs=[("x", FLOAT, ["n", 4])],
        outputs=[("places", INT64, [2, "k"]), ("total", FLOAT, []), ("y", FLOAT, ["n", 4])],
    )
    found = packed(model, np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 60] * 2, shuffled=True)
    assert found.manifest.format == 2
    assert found.manifest.inputs == (Tensor("x", "FP32", (1, 4)),)
    assert found.manifest.outputs == (
        Tensor("places", "INT64", (2, -1), batch_axis=None),
        Tensor("total", "FP32", ()),
        Tensor("y", "FP32", (1, 4)),
    )
    assert "varying_output" in codes(found)
    watched = {feature.source.tensor for feature in found.baseline.features}
    assert watched == {"x", "total", "y"}
    with open_engine(found.folder) as engine:
        answer = engine.infer({"x": np.ones((1, 4), np.float32)}).outputs
        assert answer["places"].shape == (2, 4)
        assert answer["total"] == 4.0


def test_time_first_and_a_state_that_the_caller_carries_are_seen(tmp_path):
    """As recurrent models are exported: sequence first, state [layers, batch, width]."""
    model = written(
        tmp_path,
        helper.make_node("Add", ["x", "h"], ["y"]),
        helper.make_node("ReduceSum", ["y", "time"], ["hn"], keepdims=1),
        inputs=[("x", FLOAT, ["t", "batch", 3]), ("h", FLOAT, [1, "batch", 3])],
        outputs=[("y", FLOAT, ["t", "batch", 3]), ("hn", FLOAT, [1, "batch", 3])],
        initializers={"time": np.array([0])},
    )
    found = packed(model, shape={"x": [5, 1, 3]}, batch_axis={"x": "1", "h": "1"})
    assert [tensor.batch for tensor in found.manifest.inputs] == [1, 1]
    assert [tensor.batch for tensor in found.manifest.outputs] == [1, 1]
    assert found.manifest.inputs[0].shape == (5, -1, 3)
    assert found.manifest.state.tensors == {"h": "hn"}
    assert "state" in codes(found)
    with open_engine(found.folder) as engine:
        inputs = {"x": np.ones((5, 2, 3), np.float32), "h": np.zeros((1, 2, 3), np.float32)}
        assert engine.infer(inputs).outputs["hn"].tolist() == [[[5.0] * 3] * 2]


def test_a_batch_that_the_model_fixes_and_a_threshold_beside_it_are_declared(tmp_path):
    model = written(
        tmp_path,
        helper.make_node("Add", ["x", "threshold"], ["y"]),
        inputs=[("x", FLOAT, [4, 2]), ("threshold", FLOAT, [])],
        outputs=[("y", FLOAT, [4, 2])],
    )
    found = packed(model)
    assert found.manifest.inputs == (
        Tensor("x", "FP32", (4, 2)),
        Tensor("threshold", "FP32", ()),
    )
    assert found.manifest.outputs == (Tensor("y", "FP32", (4, 2)),)
    open_engine(found.folder).close()


def test_a_signal_without_a_batch_is_packed_when_it_is_said(tmp_path):
    model = written(
        tmp_path,
        helper.make_node("ReduceMax", ["wave"], ["peak"], keepdims=0),
        inputs=[("wave", FLOAT, ["n"])],
        outputs=[("peak", FLOAT, [])],
    )
    found = packed(model, RANDOM.random((200, 64)).astype(np.float32), batch_axis={"wave": "none"})
    assert found.manifest.inputs == (Tensor("wave", "FP32", (64,), batch_axis=None),)
    assert len(found.baseline.features) > 0
    with open_engine(found.folder) as engine:
        assert engine.infer({"wave": np.arange(64, dtype=np.float32)}).outputs["peak"] == 63.0


def test_open_dimensions_are_fixed_by_hand_and_said_when_they_stay_open(tmp_path):
    shapes, nodes = identity(x=["n", "width"])
    model = written(tmp_path, *nodes, **shapes)
    found = packed(model)
    assert found.manifest.inputs[0].shape == (-1, -1)
    assert "free_shape" in codes(found)
    assert packed(model, shape={"x": [1, 5]}).manifest.inputs[0].shape == (-1, 5)


def test_any_shape_is_said_in_prose(tmp_path):
    shapes, nodes = identity(x=["t", "batch", 3], one=[])
    found = packed(
        written(tmp_path, *nodes, **shapes), batch_axis={"x": "1"}, shape={"x": [5, 1, 3]}
    )
    said = " ".join(explained(found))
    assert "'x': FP32, any number of rows along dimension 1, each 5 × 3" in said
    assert "'one': FP32, one value for each request" in said
