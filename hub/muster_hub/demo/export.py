"""Write a small dense classifier as ONNX and as TFLite, from its weights and nothing else.

Both take ``image`` FP32 ``[n, 8, 8]`` and give ``probabilities`` FP32 ``[n, classes]``: hidden
layers are dense with ReLU, the last is dense with softmax.
"""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

Floats = NDArray[np.float32]
Layers = Sequence[tuple[Floats, Floats]]
"""Weights ``[in, out]`` and bias ``[out]``, first layer first."""

INPUT = "image"
OUTPUT = "probabilities"
FLOAT32 = schema.TensorType.FLOAT32
INT32 = schema.TensorType.INT32
BOOL = schema.TensorType.BOOL
INT8 = schema.TensorType.INT8
TfliteOperator = schema.BuiltinOperator

OPSET = 17
OPSET_ML = 3
IR_VERSION = 8
"""Old enough for any onnxruntime since 1.14."""


def to_onnx(layers: Layers, side: int) -> bytes:
    """An ONNX model of ``layers`` for square images; the batch dimension is free."""
    nodes = [helper.make_node("Flatten", [INPUT], ["rows"], axis=1)]
    weights = []
    last = "rows"
    for number, (weight, bias) in enumerate(layers):
        names = [f"weight_{number}", f"bias_{number}"]
        weights += [
            numpy_helper.from_array(array, name)
            for name, array in zip(names, (weight, bias), strict=True)
        ]
        nodes.append(helper.make_node("Gemm", [last, *names], [f"dense_{number}"]))
        last = f"dense_{number}"
        if number + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [last], [f"relu_{number}"]))
            last = f"relu_{number}"
    nodes.append(helper.make_node("Softmax", [last], [OUTPUT], axis=1))
    return onnx_model(nodes, side=side, classes=len(layers[-1][1]), weights=weights)


def onnx_model(nodes: list[Any], *, side: int, classes: int, weights: Sequence[Any] = ()) -> bytes:
    """A checked model of one graph from ``INPUT`` to ``OUTPUT``, in the versions named above."""
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", side, side])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", classes])],
        initializer=weights,
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


class TfliteModel:
    """A TFLite model under construction; its first graph is the one that runs."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.model.subgraphs = []

    def graph(self) -> "TfliteGraph":
        """Another graph of the file."""
        return TfliteGraph(self)

    def encode(self) -> bytes:
        """The file's bytes, with TFLite's identifier."""
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


class TfliteGraph:
    """One subgraph: tensors, constants and operators, each named by its index."""

    def __init__(self, owner: TfliteModel) -> None:
        self._model = owner.model
        self._graph = schema.SubGraphT()
        self._graph.tensors = []
        self._graph.operators = []
        self._model.subgraphs.append(self._graph)

    def tensor(self, name: str, shape: Sequence[int], kind: int = FLOAT32) -> int:
        """A tensor; where it has dimensions the first is the batch and may be resized."""
        index = self._add(name, shape, kind, buffer=0)
        if shape:
            self._graph.tensors[index].shapeSignature = [-1, *shape[1:]]
        return index

    def constant(self, name: str, value: NDArray[Any]) -> int:
        """A constant of float32, int32 or int8."""
        kind = {"float32": FLOAT32, "int32": INT32, "int8": INT8}[str(value.dtype)]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), dtype=np.uint8)
        self._model.buffers.append(buffer)
        return self._add(name, value.shape, kind, buffer=len(self._model.buffers) - 1)

    def quantise(self, index: int, scales: Sequence[float], zero_point: int = 0) -> None:
        """What a tensor's whole numbers stand for: scale × (number - zero point); of several
        scales one for each entry along the first axis."""
        meaning = schema.QuantizationParametersT()
        meaning.scale = list(scales)
        meaning.zeroPoint = [zero_point] * len(scales)
        self._graph.tensors[index].quantization = meaning

    def operator(self, code: int, inputs: list[int], output: int, options: Any) -> None:
        """Append an operator with the schema's option object for its kind."""
        entry = schema.OperatorCodeT()
        entry.builtinCode = code
        entry.deprecatedBuiltinCode = min(code, 127)
        self._model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = inputs
        operator.outputs = [output]
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        self._graph.operators.append(operator)

    def finish(self, source: int, result: int) -> None:
        """Name the graph's input and output."""
        self._graph.inputs = [source]
        self._graph.outputs = [result]

    def _add(self, name: str, shape: Sequence[int], kind: int, *, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name = name
        tensor.shape = list(shape)
        tensor.type = kind
        tensor.buffer = buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def to_tflite(layers: Layers, side: int) -> bytes:
    """A TFLite model of ``layers`` for square images; the batch is 1 until resized."""
    model = TfliteModel()
    graph = model.graph()
    image = graph.tensor(INPUT, [1, side, side])
    last = graph.tensor("rows", [1, side * side])
    shape = graph.constant("rows_shape", np.array([-1, side * side], dtype=np.int32))
    graph.operator(TfliteOperator.RESHAPE, [image, shape], last, schema.ReshapeOptionsT())
    for number, (weight, bias) in enumerate(layers):
        options = schema.FullyConnectedOptionsT()
        if number + 1 < len(layers):
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        out = graph.tensor(f"dense_{number}", [1, len(bias)])
        weights = graph.constant(f"weight_{number}", np.ascontiguousarray(weight.T))
        biases = graph.constant(f"bias_{number}", bias)
        graph.operator(TfliteOperator.FULLY_CONNECTED, [last, weights, biases], out, options)
        last = out
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    probabilities = graph.tensor(OUTPUT, [1, len(layers[-1][1])])
    graph.operator(TfliteOperator.SOFTMAX, [last], probabilities, softmax)
    graph.finish(image, probabilities)
    return model.encode()
