"""What every runtime offers: load a file, name its tensors, run it.

The supervisor asks ``available`` and never imports a runtime; a worker calls ``load``.
"""

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from muster_agent.runtimes import smallest
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

MODULES = tuple(module for provided in DISTRIBUTIONS.values() for module, _ in provided)
"""Every module that may provide a runtime."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")


class ModelError(MusterError):
    """A model file can't be loaded, or doesn't run."""


class UnfitInputError(ModelError):
    """What the caller gave is nothing that the model takes; no fault of the model's."""


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


OLDEST = {"onnxruntime": (1, 24)}
"""Before that it read any file that a model named as its tensors'."""


@functools.cache
def provider_of(runtime: str) -> tuple[str, str] | None:
    """(module, version) of what provides a runtime here, or None.

    Kept from the first look on: where a model is loaded it may be the last one possible.
    """
    for module, distribution in DISTRIBUTIONS.get(runtime, ()):
        if importlib.util.find_spec(module) is None:
            continue
        version = _version(distribution)
        if _release(version) >= OLDEST.get(module, (0, 0)):
            return module, version
    return None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _release(version: str) -> tuple[float, float]:
    """The first two numbers of a version; one without any is believed to be new."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (float("inf"), 0)


def prepare(runtime: str) -> None:
    """Import a runtime without loading a model, so that memory can be counted from there."""
    module = _backend(runtime)
    if module == "onnxruntime":
        importlib.import_module("muster_agent.runtimes.onnx")
    else:
        importlib.import_module("muster_agent.runtimes.tflite")
        smallest.start(module)


def load(
    runtime: str,
    source: Path | bytes,
    *,
    threads: int = 1,
    side_files: Mapping[str, int] = MappingProxyType({}),
) -> Model:
    """Load a model from its file or its bytes; raises NoRuntimeError, OutOfMemoryError, ModelError.

    ``threads`` bounds the threads of one run. ``side_files`` are open descriptors, by name, of the
    files that may hold a part of the model.
    """
    module = _backend(runtime)
    if module == "onnxruntime":
        from muster_agent.runtimes.onnx import OnnxModel  # noqa: PLC0415  # imports the runtime

        return OnnxModel(source, threads=threads, side_files=side_files)
    from muster_agent.runtimes.tflite import TfliteModel  # noqa: PLC0415  # imports the runtime

    return TfliteModel(source, module=module, threads=threads)


def _backend(runtime: str) -> str:
    provider = provider_of(runtime)
    if provider is None:
        wanted = " or ".join(map(_wanted, DISTRIBUTIONS.get(runtime, ()))) or "a newer agent"
        raise NoRuntimeError(f"no {runtime} runtime is installed here: install {wanted}")
    return provider[0]


def _wanted(provider: tuple[str, str]) -> str:
    module, distribution = provider
    oldest = OLDEST.get(module)
    return f"{distribution}>={oldest[0]}.{oldest[1]}" if oldest else distribution


def shape_fits(declared: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether ``shape`` is an instance of a declared shape; a variable dimension is at least 1."""
    if len(declared) != len(shape):
        return False
    for want, got in zip(declared, shape, strict=True):  # all() is twice as slow
        if want != got and (want != -1 or got < 1):
            return False
    return True


def shorten(error: BaseException, limit_chars: int = 300) -> str:
    """A runtime's own words about a failure: one line of bounded length, without its numbers."""
    text = without_numbers(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"


def without_numbers(text: str) -> str:
    """``text`` with ``#`` for each number.

    What a runtime says of a failure may name sizes that the model computed. The words leave the
    device, and the hub before anybody approved the model, and could carry home what it read.
    """
    return _NUMBER.sub("#", text)
