"""Runs a model in a process of its own: ``python -m muster_client.packing.probe RUNTIME MODEL FD``.

A model that crashes, or takes all memory, ends this process and not the command. Requests are lines
of JSON on standard input; after each answer, which is a file, a byte goes to the descriptor ``FD``:
what a runtime prints itself disturbs nobody.
"""

import importlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_client.packing import running
from muster_client.packing.findings import Answer, Described, Failure, Probed, Request

Arrays = dict[str, NDArray[Any]]


class Runner(Protocol):
    """A loaded model."""

    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Its outputs that are tensors."""
        ...


class OnnxRunner:
    """A session of ONNX Runtime on one thread, as a device has it."""

    def __init__(self, path: str) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(map(_of_node, self._session.get_inputs()))
        self.outputs = tuple(map(_of_node, self._session.get_outputs()))
        self._wanted = [each.name for each in self.outputs if not each.kind.startswith("seq")]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        found = self._session.run(self._wanted, dict(inputs))
        return {
            name: value
            for name, value in zip(self._wanted, found, strict=True)
            if isinstance(value, np.ndarray)
        }


class TfliteRunner:
    """An interpreter of TFLite on one thread."""

    def __init__(self, path: str) -> None:
        interpreter = _tflite().Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = tuple(map(_of_detail, ins))
        self.outputs = tuple(map(_of_detail, outs))
        self._ins = {str(each["name"]): int(each["index"]) for each in ins}
        self._outs = {str(each["name"]): int(each["index"]) for each in outs}
        self._shapes = {str(each["name"]): tuple(each["shape"].tolist()) for each in ins}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        shapes = {name: array.shape for name, array in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._ins[name], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._ins[name], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outs.items()}


def _onnxruntime() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its maker
    return importlib.import_module("onnxruntime")


def _tflite() -> Any:
    for module in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{module}.interpreter")
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("no TFLite runtime", name="ai_edge_litert")


_ONNX_KINDS = {
    "float": "float32", "double": "float64", "float16": "float16", "string": "text", "bool": "bool",
}  # fmt: skip


def _of_node(node: Any) -> Described:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    kind = node.type
    if kind.startswith("tensor("):
        kind = kind.removeprefix("tensor(").removesuffix(")")
        kind = _ONNX_KINDS.get(kind, kind)
    dims = tuple(size if isinstance(size, str) else "" for size in node.shape)
    return Described(node.name, kind, shape, dims)


def _of_detail(detail: Mapping[str, Any]) -> Described:
    signature = detail.get("shape_signature", ())
    sizes = signature if len(signature) else detail["shape"]
    shape = tuple(int(size) if size >= 0 else None for size in sizes)
    scale, zero_point = detail.get("quantization", (0.0, 0))
    kind = np.dtype(detail["dtype"])
    named = "text" if kind.kind in "SUO" else kind.name
    return Described(str(detail["name"]), named, shape, (), float(scale), int(zero_point))


_RUNNERS: dict[str, type[OnnxRunner] | type[TfliteRunner]] = {
    "onnx": OnnxRunner,
    "tflite": TfliteRunner,
}
_MODULES = {"onnx": _onnxruntime, "tflite": _tflite}


class LoadedModel:
    """A model that is loaded at the first request."""

    def __init__(self, runtime: str, model: str) -> None:
        self._runtime, self._model = runtime, model
        self._runner: Runner | None = None
        self._before = 0
        self._load_seconds = 0.0

    def probe(self, request: Request) -> Probed:
        """Run what is asked; whatever a runtime raises comes through."""
        module = _MODULES[self._runtime]()
        if self._runner is None:
            self._before = _status("VmSize:")
            begun = time.monotonic()
            self._runner = _RUNNERS[self._runtime](self._model)
            self._load_seconds = time.monotonic() - begun
        found = Probed(
            inputs=self._runner.inputs,
            outputs=self._runner.outputs,
            load_seconds=self._load_seconds,
            runtime_version=str(getattr(module, "__version__", "")),
        )
        if request.inputs:
            found = _run(self._runner, request, found)
        grown = max(_status("VmPeak:") - self._before, 0)
        return msgspec.structs.replace(found, memory_bytes=grown)


def _run(runner: Runner, request: Request, found: Probed) -> Probed:
    with np.load(request.inputs, allow_pickle=True) as archive:  # made by the parent
        inputs = {name: archive[name] for name in archive.files}
    ran = running.run(runner.run, inputs, request)
    np.savez(request.outputs, **ran.answers)  # type: ignore[arg-type]  # names of tensors
    return msgspec.structs.replace(
        found,
        latency_ms=ran.latency_ms,
        output_axes=ran.axes,
        repeats=ran.repeats,
        batches=ran.batches,
        batch_fault=ran.fault,
    )


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def _answered(loaded: LoadedModel, request: Request) -> Probed | Failure:
    try:
        return loaded.probe(request)
    except ModuleNotFoundError as error:
        return Failure(running.line(error), lacking=error.name or "")
    except Exception as error:
        return Failure(running.line(error))


def main() -> None:
    """Answer requests until standard input ends."""
    runtime, model, descriptor = sys.argv[1:]
    loaded = LoadedModel(runtime, model)
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=Request)
        Path(request.answer).write_bytes(msgspec.json.encode(Answer(_answered(loaded, request))))
        os.write(int(descriptor), b".")


if __name__ == "__main__":
    main()
