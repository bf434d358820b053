"""Small models and whole bundles for tests, written byte by byte without a training framework.

``dense_onnx`` and ``dense_tflite`` give the same classifier in both formats:
``probabilities = softmax(x · weights + biases)`` with ``x`` float32 [-1, inputs].
"""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from muster_protocol.wire import chunks, manifest
from muster_protocol.wire.limits import CHUNK_BYTES, MIB

Floats = NDArray[np.float32]


def weights(inputs: int = 4, classes: int = 3, seed: int = 7) -> tuple[Floats, Floats]:
    """Random weights [inputs, classes] and biases [classes], the same for the same seed."""
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(inputs, classes)).astype(np.float32),
        random.normal(size=classes).astype(np.float32),
    )


def softmax(x: Floats, w: Floats, b: Floats) -> Floats:
    """What the dense models compute, in NumPy: [rows, classes]."""
    logits = x @ w + b
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def dense_onnx(w: Floats, b: Floats, *, batch: int | str = "batch") -> bytes:
    return graph_onnx(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        inputs=[("x", TensorProto.FLOAT, [batch, w.shape[0]])],
        outputs=[("probabilities", TensorProto.FLOAT, [batch, w.shape[1]])],
        initializers={"w": w, "b": b},
    )


def graph_onnx(
    nodes: Sequence[Any],
    *,
    inputs: Sequence[tuple[str, int, Sequence[int | str]]],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    initializers: dict[str, NDArray[Any]] | None = None,
) -> bytes:
    """An ONNX model of these nodes, opset 17."""
    graph = helper.make_graph(
        nodes,
        "fixture",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def dense_tflite(w: Floats, b: Floats, *, batch: int = -1) -> bytes:
    """One FULLY_CONNECTED and one SOFTMAX; ``batch`` -1 declares the first dimension dynamic."""
    inputs, classes = w.shape
    buffers = [b"", np.ascontiguousarray(w.T).tobytes(), b.tobytes()]

    def tensor(name: str, shape: list[int], buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, [abs(size) for size in shape], buffer
        made.type, made.shapeSignature = schema.TensorType.FLOAT32, shape
        return made

    def operator(code: int, ins: list[int], outs: list[int], kind: int, options: Any) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, ins, outs
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    scale = schema.SoftmaxOptionsT()
    scale.beta = 1.0
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", [batch, inputs]),
        tensor("w", [classes, inputs], 1),
        tensor("b", [classes], 2),
        tensor("logits", [batch, classes]),
        tensor("probabilities", [batch, classes]),
    ]
    graph.inputs, graph.outputs = [0], [4]
    graph.operators = [
        operator(
            0,
            [0, 1, 2],
            [3],
            schema.BuiltinOptions.FullyConnectedOptions,
            schema.FullyConnectedOptionsT(),
        ),
        operator(1, [3], [4], schema.BuiltinOptions.SoftmaxOptions, scale),
    ]
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


def _operator_code(builtin: int) -> Any:
    made = schema.OperatorCodeT()
    made.deprecatedBuiltinCode = made.builtinCode = builtin
    made.version = 1
    return made


def write_file(directory: Path, name: str, data: bytes) -> manifest.File:
    """Write one bundle file and give its manifest entry, with a chunk index when it needs one."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)
    index: tuple[str, ...] = ()
    if len(data) > CHUNK_BYTES:
        whole = chunks.index_of(chunks.sha256_hex(piece) for piece in chunks.cut(data))
        index = tuple(chunks.sha256_hex(piece) for piece in chunks.cut(whole))
    return manifest.File(name, len(data), hashlib.sha256(data).hexdigest(), index)


def golden_npz(arrays: dict[str, NDArray[Any]]) -> bytes:
    """An ``.npz`` with ``input:<tensor>`` and ``output:<tensor>``, cases first."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub names only positional arrays
    return buffer.getvalue()


def _declared(
    tensors: tuple[tuple[manifest.Tensor, ...], tuple[manifest.Tensor, ...] | None] | None,
) -> dict[str, Any]:
    """Inputs and outputs as the manifest is to declare them; None: as the model has them."""
    if tensors is None:
        return {}
    ins, outs = tensors
    return {"inputs": ins} | ({} if outs is None else {"outputs": outs})


def write_bundle(
    directory: Path,
    *,
    model: str = "dense",
    version: str = "1",
    runtimes: Sequence[manifest.Runtime] = ("onnx", "tflite"),
    inputs: int = 4,
    classes: int = 3,
    seed: int = 7,
    files: dict[manifest.Runtime, bytes] | None = None,
    golden: dict[str, NDArray[Any]] | None = None,
    memory_bytes: int = 256 * MIB,
    trained: bytes | None = None,
    more_files: Sequence[manifest.File] = (),
    tensors: tuple[tuple[manifest.Tensor, ...], tuple[manifest.Tensor, ...] | None] | None = None,
    **fields: Any,
) -> tuple[manifest.Manifest, str]:
    """Write a dense classifier as a bundle; returns its manifest and the manifest's SHA-256.

    ``files`` replaces a runtime's model bytes and ``golden`` the golden arrays, to make bundles
    that must be refused; ``trained`` is a baseline's file; ``tensors`` are inputs and outputs as
    the manifest declares them; ``fields`` go to the manifest as they are.
    """
    w, b = weights(inputs, classes, seed)
    cases = np.random.default_rng(seed + 1).normal(size=(5, inputs)).astype(np.float32)
    made = {"onnx": dense_onnx(w, b), "tflite": dense_tflite(w, b)} | dict(files or {})
    if golden is None:
        golden = {"input:x": cases, "output:probabilities": softmax(cases, w, b)}
    entries = [write_file(directory, f"model.{name}", made[name]) for name in runtimes]
    entries.append(write_file(directory, "golden.npz", golden_npz(golden)))
    if trained is not None:
        entries.append(write_file(directory, "baseline.bin", trained))
        fields["baseline"] = "baseline.bin"
    built = manifest.Manifest(
        **{
            "model": model,
            "version": version,
            "created": 0,
            "inputs": (manifest.Tensor("x", "FP32", (-1, inputs)),),
            "outputs": (manifest.Tensor("probabilities", "FP32", (-1, classes)),),
            "builds": tuple(
                manifest.Build(runtime=name, file=f"model.{name}", memory_bytes=memory_bytes)
                for name in runtimes
            ),
            "files": (*entries, *more_files),
            "golden": manifest.Golden("golden.npz"),
            "classifier": manifest.Classifier(
                "probabilities", tuple(str(number) for number in range(classes))
            ),
            **_declared(tensors),
            **fields,
        }
    )
    data = manifest.encode(built)
    (directory / "manifest.json").write_bytes(data)
    return built, hashlib.sha256(data).hexdigest()
