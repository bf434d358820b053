"""What every runtime offers: load a file, name its tensors, run it.

The supervisor asks ``available`` and never imports a runtime; a worker calls ``load``.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.manifest import Tensor

Array = NDArray[Any]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""NumPy's type for each protocol datatype; BYTES is an object array of ``bytes``."""

DISTRIBUTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "onnx": (("onnxruntime", "onnxruntime"),),
    "tflite": (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")),
}
"""Runtime to the (module, distribution) pairs that provide it, preferred first."""


class ModelError(MusterError):
    """A model file can't be loaded, or doesn't run."""


class OutOfMemoryError(ModelError):
    """The model needed more memory than the worker's limit allows."""


class NoRuntimeError(ModelError):
    """Nothing installed here runs this kind of model."""


class Model(Protocol):
    """A loaded model. ``run`` may be called from several threads."""

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def outputs(self) -> tuple[Tensor, ...]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name; arrays are C-contiguous and of the declared type.

        The result owns its memory. Raises ModelError when the model fails.
        """
        ...


def available() -> dict[str, str]:
    """Version of each runtime this device has, by runtime name, without importing any."""
    found = {}
    for runtime in DISTRIBUTIONS:
        provider = provider_of(runtime)
        if provider is not None:
            found[runtime] = provider[1]
    return found


def provider_of(runtime: str) -> tuple[str, str] | None:
    """(module, version) of what provides a runtime here, or None."""
    for module, distribution in DISTRIBUTIONS.get(runtime, ()):
        if importlib.util.find_spec(module) is None:
            continue
        try:
            return module, importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return module, "unknown"
    return None


def prepare(runtime: str) -> None:
    """Import a runtime without loading a model, so that memory can be counted from there."""
    module = _backend(runtime)
    if module == "onnxruntime":
        importlib.import_module("muster_agent.runtimes.onnx")
    else:
        importlib.import_module(f"{module}.interpreter")


def load(runtime: str, path: Path, *, threads: int = 1) -> Model:
    """Load a model file; raises NoRuntimeError, OutOfMemoryError or ModelError.

    ``threads`` bounds the threads of one run.
    """
    module = _backend(runtime)
    if module == "onnxruntime":
        from muster_agent.runtimes.onnx import OnnxModel  # noqa: PLC0415  # imports the runtime

        return OnnxModel(path, threads=threads)
    from muster_agent.runtimes.tflite import TfliteModel  # noqa: PLC0415  # imports the runtime

    return TfliteModel(path, module=module, threads=threads)


def _backend(runtime: str) -> str:
    provider = provider_of(runtime)
    if provider is None:
        wanted = " or ".join(name for _, name in DISTRIBUTIONS.get(runtime, ())) or "a newer agent"
        raise NoRuntimeError(f"no {runtime} runtime is installed here: install {wanted}")
    return provider[0]


def shape_fits(declared: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether ``shape`` is an instance of a declared shape; a variable dimension is at least 1."""
    if len(declared) != len(shape):
        return False
    for want, got in zip(declared, shape, strict=True):  # all() is twice as slow
        if want != got and (want != -1 or got < 1):
            return False
    return True


def shorten(error: BaseException, limit_chars: int = 300) -> str:
    """The error's text on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"
