"""Models of every shape, as bundles of manifest format 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper

from muster_protocol.wire import manifest
from muster_protocol.wire.tensors import Tensor
from support.models import graph_onnx, write_bundle

Arrays = dict[str, NDArray[Any]]
FLOAT = TensorProto.FLOAT


class Shaped(NamedTuple):
    """A model, what its manifest declares, and requests with their answers."""

    model: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    cases: Sequence[tuple[Arrays, Arrays]]
    runtime: manifest.Runtime = "onnx"
    fields: dict[str, Any] = {}  # noqa: RUF012  # a tuple's default, never changed

    def write(self, directory: Path, **fields: Any) -> tuple[manifest.Manifest, str]:
        golden = {
            f"{number}/{kind}:{name}": array
            for number, case in enumerate(self.cases)
            for kind, arrays in zip(("input", "output"), case, strict=True)
            for name, array in arrays.items()
        }
        return write_bundle(
            directory,
            model="shaped",
            runtimes=(self.runtime,),
            files={self.runtime: self.model},
            golden=golden,
            tensors=(self.inputs, self.outputs),
            **{"format": 2, "classifier": None, **self.fields, **fields},
        )


def floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def node(kind: str, ins: Sequence[str], outs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(kind, ins, outs, **attributes)


def time_first() -> Shaped:
    """Sums over time; the batch is the second dimension."""
    model = graph_onnx(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        inputs=[("x", FLOAT, ["t", "b", 2])],
        outputs=[("y", FLOAT, ["b", 2])],
        initializers={"axes": np.array([0], np.int64)},
    )
    cases = [({"x": x}, {"y": x.sum(axis=0)}) for x in (floats(5, 1, 2), floats(3, 2, 2))]
    inputs = (Tensor("x", "FP32", (-1, -1, 2), batch_axis=1, shape_max=(50, 8, 2)),)
    return Shaped(model, inputs, (Tensor("y", "FP32", (-1, 2)),), cases)


def fixed_batch() -> Shaped:
    """Takes four at once, no more and no fewer."""
    model = graph_onnx(
        [node("Neg", ["x"], ["y"])],
        inputs=[("x", FLOAT, [4, 3])],
        outputs=[("y", FLOAT, [4, 3])],
    )
    x = floats(4, 3)
    return Shaped(
        model,
        (Tensor("x", "FP32", (4, 3)),),
        (Tensor("y", "FP32", (4, 3)),),
        [({"x": x}, {"y": -x})],
    )


def threshold() -> Shaped:
    """A scalar beside a batch, and another for an answer."""
    model = graph_onnx(
        [
            node("Sub", ["x", "t"], ["y"]),
            node("ReduceMax", ["y"], ["most"], keepdims=0),
        ],
        inputs=[("x", FLOAT, ["b", 3]), ("t", FLOAT, [])],
        outputs=[("y", FLOAT, ["b", 3]), ("most", FLOAT, [])],
    )
    x, t = floats(2, 3), np.float32(0.5)
    cases = [({"x": x, "t": np.array(t)}, {"y": x - t, "most": np.array((x - t).max())})]
    inputs = (Tensor("x", "FP32", (-1, 3)), Tensor("t", "FP32", ()))
    outputs = (Tensor("y", "FP32", (-1, 3)), Tensor("most", "FP32", ()))
    return Shaped(model, inputs, outputs, cases)


def wave() -> Shaped:
    """One signal of any length, no batch; its mean is a scalar."""
    model = graph_onnx(
        [node("ReduceMean", ["x"], ["y"], keepdims=0)],
        inputs=[("x", FLOAT, ["n"])],
        outputs=[("y", FLOAT, [])],
    )
    cases = [({"x": x}, {"y": np.array(x.mean(), np.float32)}) for x in (floats(7), floats(9))]
    return Shaped(
        model,
        (Tensor("x", "FP32", (-1,), batch_axis=None),),
        (Tensor("y", "FP32", (), batch_axis=None),),
        cases,
    )


def detector() -> Shaped:
    """As many answers as there are positive numbers, none at all among them."""
    model = graph_onnx(
        [node("Greater", ["x", "zero"], ["found"]), node("Compress", ["x", "found"], ["boxes"])],
        inputs=[("x", FLOAT, ["n"])],
        outputs=[("boxes", FLOAT, ["found"])],
        initializers={"zero": np.array(0, np.float32)},
    )
    cases = [({"x": x}, {"boxes": x[x > 0]}) for x in (floats(6), -np.ones(3, np.float32))]
    inputs = (Tensor("x", "FP32", (-1,), batch_axis=None, shape_min=(0,), shape_max=(1000,)),)
    return Shaped(model, inputs, (Tensor("boxes", "FP32", (-1,), batch_axis=None),), cases)


def empty_dimension() -> Shaped:
    """An input that has a dimension of size 0, always."""
    model = graph_onnx(
        [node("Concat", ["x", "none"], ["y"], axis=1)],
        inputs=[("x", FLOAT, ["b", 2]), ("none", FLOAT, ["b", 0])],
        outputs=[("y", FLOAT, ["b", 2])],
    )
    x = floats(1, 2)
    cases = [({"x": x, "none": np.zeros((1, 0), np.float32)}, {"y": x})]
    inputs = (Tensor("x", "FP32", (-1, 2)), Tensor("none", "FP32", (-1, 0)))
    return Shaped(model, inputs, (Tensor("y", "FP32", (-1, 2)),), cases)


def zipmap(*, declared: bool = True, labels: Sequence[Any] = ("b", "a", "c")) -> Shaped:
    """Probabilities in maps, as converters of scikit-learn write them."""
    key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    kind = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    value = helper.make_tensor_type_proto(FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, value))
    graph = helper.make_graph(
        [
            node("Softmax", ["x"], ["p"], axis=-1),
            node("ArgMax", ["p"], ["label"], axis=-1, keepdims=0),
            node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", **{key: list(labels)}),
        ],
        "fixture",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_value_info("probabilities", maps),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    x = floats(3, 3)
    powers = np.exp(x)
    p = powers / powers.sum(axis=1, keepdims=True)
    order = np.argsort(labels)
    answers = {"label": p.argmax(axis=1), "probabilities": p[:, order]}
    outputs = (Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, 3)))
    chosen = outputs if declared else outputs[:1]
    cases = [({"x": x}, {tensor.name: answers[tensor.name] for tensor in chosen})]
    return Shaped(bytes(model.SerializeToString()), (Tensor("x", "FP32", (-1, 3)),), chosen, cases)


def sequence() -> Shaped:
    """A sequence of tensors of one shape."""
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    graph = helper.make_graph(
        [node("SplitToSequence", ["x"], ["y"], axis=0)],
        "fixture",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 2])],
        [output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = floats(3, 2)
    outputs = (Tensor("y", "FP32", (-1, 1, 2)),)
    return Shaped(
        bytes(model.SerializeToString()),
        (Tensor("x", "FP32", (-1, 2)),),
        outputs,
        [({"x": x}, {"y": x[:, None, :]})],
    )


def untyped() -> Shaped:
    """A model that states no shape."""
    graph = helper.make_graph(
        [node("Neg", ["x"], ["y"])],
        "fixture",
        [helper.make_tensor_value_info("x", FLOAT, None)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = floats(2, 2)
    return Shaped(
        bytes(model.SerializeToString()),
        (Tensor("x", "FP32", (-1, 2)),),
        (Tensor("y", "FP32", (-1, 2)),),
        [({"x": x}, {"y": -x})],
    )


def gaps(*, missing: bool = True) -> Shaped:
    """What is missing stays missing."""
    model = graph_onnx(
        [node("Neg", ["x"], ["y"])],
        inputs=[("x", FLOAT, ["n", 2])],
        outputs=[("y", FLOAT, ["n", 2])],
    )
    x = np.array([[1.0, np.nan if missing else 2.0]], np.float32)
    return Shaped(
        model,
        (Tensor("x", "FP32", (-1, 2), missing=missing),),
        (Tensor("y", "FP32", (-1, 2)),),
        [({"x": x}, {"y": -x})],
    )


def many(count: int = 100) -> Shaped:
    """More inputs than format 1 allows."""
    names = [f"x{number}" for number in range(count)]
    model = graph_onnx(
        [node("Sum", names, ["y"])],
        inputs=[(name, FLOAT, ["n", 1]) for name in names],
        outputs=[("y", FLOAT, ["n", 1])],
    )
    inputs = {name: np.full((1, 1), number, np.float32) for number, name in enumerate(names)}
    total = np.array([[count * (count - 1) / 2]], np.float32)
    return Shaped(
        model,
        tuple(Tensor(name, "FP32", (-1, 1)) for name in names),
        (Tensor("y", "FP32", (-1, 1)),),
        [(inputs, {"y": total})],
    )


def half() -> Shaped:
    """BF16 on the wire."""
    model = graph_onnx(
        [node("Neg", ["x"], ["y"])],
        inputs=[("x", FLOAT, ["n", 2])],
        outputs=[("y", FLOAT, ["n", 2])],
    )
    x = np.array([[1.5, -2.0]], np.float32)
    return Shaped(
        model,
        (Tensor("x", "BF16", (-1, 2)),),
        (Tensor("y", "BF16", (-1, 2)),),
        [({"x": x}, {"y": -x})],
    )


def running_sum(*, state: Any = None) -> Shaped:
    """A TFLite model that adds what it is given to what it was given before."""
    state_fields = {} if state is None else {"state": state}
    x = np.ones((1, 1), np.float32)
    return Shaped(
        running_sum_tflite(),
        (Tensor("x", "FP32", (1, 1)),),
        (Tensor("sum", "FP32", (1, 1)),),
        [({"x": x}, {"sum": x}), ({"x": x}, {"sum": x * 2})],
        "tflite",
        state_fields,
    )


def running_sum_tflite() -> bytes:
    """One RNN cell with both weights 1: its hidden state is the sum of all inputs so far."""

    def tensor(name: str, shape: list[int], buffer: int = 0, *, variable: bool = False) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, shape, buffer
        made.type, made.isVariable = schema.TensorType.FLOAT32, variable
        return made

    options = schema.RNNOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    cell = schema.OperatorT()
    cell.opcodeIndex, cell.inputs, cell.outputs = 0, [0, 1, 2, 3, 4], [5]
    cell.builtinOptionsType, cell.builtinOptions = schema.BuiltinOptions.RNNOptions, options
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", [1, 1]),
        tensor("w", [1, 1], 1),
        tensor("r", [1, 1], 1),
        tensor("b", [1], 2),
        tensor("hidden", [1, 1], variable=True),
        tensor("sum", [1, 1]),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [5], [cell]
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.RNN
    code.version = 1
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = []
    for values in (None, np.ones(1, np.float32), np.zeros(1, np.float32)):
        buffer = schema.BufferT()
        buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


SHAPES = {
    "time first": time_first,
    "a fixed batch": fixed_batch,
    "a scalar beside a batch": threshold,
    "one signal without a batch": wave,
    "answers of variable length": detector,
    "an empty dimension": empty_dimension,
    "maps of texts": zipmap,
    "maps of numbers": lambda: zipmap(labels=(2, 0, 1)),
    "maps that nobody declares": lambda: zipmap(declared=False),
    "a sequence": sequence,
    "no stated shape": untyped,
    "missing values": gaps,
    "a hundred inputs": many,
    "BF16": half,
}
