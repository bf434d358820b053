"""Models of a given size for the update benchmark: one stack of dense layers in both formats."""

import math
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper

from support.models import _operator_code, graph_onnx

Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
INPUTS, CLASSES = 4, 3


def layers(size_bytes: int, seed: int = 1) -> Layers:
    """4 → n → n → 3 with about ``size_bytes`` of float32 weights."""
    rng = np.random.default_rng(seed)
    n = int(math.sqrt(size_bytes / 4))
    shapes = [(INPUTS, n), (n, n), (n, CLASSES)]
    return [
        (
            (rng.normal(size=shape) / math.sqrt(shape[0])).astype(np.float32),
            np.zeros(shape[1], np.float32),
        )
        for shape in shapes
    ]


def run(stack: Layers, x: NDArray[np.float32]) -> NDArray[np.float32]:
    for number, (w, b) in enumerate(stack):
        x = x @ w + b
        x = np.maximum(x, 0) if number < len(stack) - 1 else x
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def as_onnx(stack: Layers, inputs: int = INPUTS, classes: int = CLASSES) -> bytes:
    nodes, initializers, last = [], {}, "x"
    for number, (w, b) in enumerate(stack):
        initializers |= {f"w{number}": w, f"b{number}": b}
        nodes.append(helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [f"h{number}"]))
        last = f"h{number}"
        if number < len(stack) - 1:
            nodes.append(helper.make_node("Relu", [last], [f"r{number}"]))
            last = f"r{number}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=-1))
    return graph_onnx(
        nodes,
        inputs=[("x", TensorProto.FLOAT, ["batch", inputs])],
        outputs=[("probabilities", TensorProto.FLOAT, ["batch", classes])],
        initializers=initializers,
    )


def as_tflite(stack: Layers) -> bytes:
    graph, buffers = schema.SubGraphT(), [b""]
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: list[int], data: bytes = b"") -> int:
        made = schema.TensorT()
        made.name, made.shape, made.shapeSignature = name, [abs(size) for size in shape], shape
        made.type, made.buffer = schema.TensorType.FLOAT32, 0
        if data:
            buffers.append(data)
            made.buffer = len(buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code: int, ins: list[int], outs: list[int], kind: int, options: Any) -> None:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, ins, outs
        made.builtinOptionsType, made.builtinOptions = kind, options
        graph.operators.append(made)

    last = tensor("x", [-1, INPUTS])
    graph.inputs = [last]
    for number, (w, b) in enumerate(stack):
        options = schema.FullyConnectedOptionsT()
        if number < len(stack) - 1:
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        ins = [
            last,
            tensor(f"w{number}", [w.shape[1], w.shape[0]], np.ascontiguousarray(w.T).tobytes()),
            tensor(f"b{number}", [w.shape[1]], b.tobytes()),
        ]
        last = tensor(f"h{number}", [-1, w.shape[1]])
        operator(0, ins, [last], schema.BuiltinOptions.FullyConnectedOptions, options)
    scale = schema.SoftmaxOptionsT()
    scale.beta = 1.0
    graph.outputs = [tensor("probabilities", [-1, CLASSES])]
    operator(1, [last], graph.outputs, schema.BuiltinOptions.SoftmaxOptions, scale)
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [
        _operator_code(schema.BuiltinOperator.FULLY_CONNECTED),
        _operator_code(schema.BuiltinOperator.SOFTMAX),
    ]
    model.buffers = []
    for data in buffers:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8) if data else None
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
