"""What every runtime offers: load a file, name its tensors, run it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.manifest import Provider, ProviderName
from muster_protocol.wire.tensors import Datatype, Tensor

Array = NDArray[Any]

NUMPY_TYPES: dict[Datatype, np.dtype[Any]] = {
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
    "BF16": np.dtype(np.float32),
}
"""NumPy's type for each protocol datatype; BYTES is an object array of ``bytes``.

NumPy has no BF16: it travels as such and is FP32 in memory, which holds each of its numbers.
"""
NAMES: dict[np.dtype[Any], Datatype] = {
    dtype: name for name, dtype in NUMPY_TYPES.items() if name != "BF16"
}
"""The datatype of an array."""


_USEFUL = re.compile(
    r"model IR version: \d{1,4}, max supported IR version: \d{1,4}"
    r"|Opset \d{1,4} is under development|till opset \d{1,4}\b|domain_version of \d{1,4}\b"
    r"|Got invalid dimensions for input: \S{1,256} for the following indices"
    r"(?: index: \d{1,2} Got: \d{1,12} Expected: \d{1,12})+"
    r"|Invalid rank for input: \S{1,256} Got: \d{1,2} Expected: \d{1,2}"
    r"|builtin opcode '\w{1,64}' version '\d{1,4}'"
)
"""Words of runtimes with numbers of the model's file or of the request: none is computed."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")


_SOURCE = re.compile(r"/onnxruntime_src/\S+ .*\) (?=[A-Z])")
"""Where in a runtime's own source an error was raised; it would leave no room for the reason."""
_DESCRIPTOR = re.compile(r"/proc/self/fd/\d+")
MODEL_FILE = "the model's file"
"""What a descriptor stands for in the words of a runtime; who knows its name puts that instead."""


class ModelError(MusterError):
    """A model file can't be loaded, or doesn't run."""


class UnfitInputError(ModelError):
    """What the caller gave is nothing that the model takes; no fault of the model's."""


class OutOfMemoryError(ModelError):
    """The model needed more memory than the worker's limit allows."""


class NoRuntimeError(ModelError):
    """Nothing installed here runs this kind of model."""


@dataclass(frozen=True)
class Package:
    """What is installed to have a runtime."""

    module: str
    """Its top-level module."""
    distribution: str
    """Its name on the index."""
    oldest: tuple[int, int] = (0, 0)
    """The first two numbers of the oldest version that may be used."""
    others: tuple[str, ...] = ()
    """Distributions that bring the same module with other providers."""


class Model(Protocol):
    """A loaded model. ``run`` may be called from several threads."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it takes, in its own order."""
        ...

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that it gives, in its own order."""
        ...

    def keep(self, names: Sequence[str]) -> None:
        """Give only these outputs from now on: what nobody asks for needs no work."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for inputs by name; arrays are C-contiguous and of the declared type.

        The result owns its memory. Raises ModelError when the model fails.
        """
        ...


Needs = Literal["nothing", "code", "device"]
"""What computing takes besides memory: making code, or a device's driver, which no filter knows."""


class LoadedModel(Model, Protocol):
    """A model as its runtime gives it."""

    @property
    def providers(self) -> tuple[ProviderName, ...]:
        """What computes it, preferred first."""
        ...


class Backend(Protocol):
    """A runtime as the registry holds it. Naming it imports nothing of what it needs."""

    @property
    def packages(self) -> tuple[Package, ...]:
        """What it can be had from, preferred first."""
        ...

    @property
    def platform(self) -> str:
        """Its name in the Open Inference Protocol."""
        ...

    def providers(self, module: str) -> tuple[ProviderName, ...]:
        """What ``module`` brings to compute with here, without importing it."""
        ...

    def needs(self, providers: Sequence[Provider]) -> Needs:
        """What these providers ask of a process beyond a runtime's own."""
        ...

    def prepare(self, module: str) -> None:
        """Import ``module``, one of the packages', so that memory can be counted from there."""
        ...

    def load(
        self,
        source: Path | bytes,
        *,
        module: str,
        threads: int,
        side_files: Mapping[str, int],
        providers: Sequence[Provider],
    ) -> LoadedModel:
        """Load a model from its file or its bytes; raises OutOfMemoryError or ModelError.

        ``providers`` are to compute it, preferred first, all of them here; none: the runtime's own
        choice. ``side_files`` are open descriptors, by name, of files that may hold a part of it.
        """
        ...


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
    text = _SOURCE.sub("", " ".join(str(error).split()))
    text = without_numbers(_DESCRIPTOR.sub(MODEL_FILE, text)) or type(error).__name__
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"


def without_numbers(text: str) -> str:
    """``text`` with ``#`` for each number.

    What a runtime says of a failure may name sizes that the model computed. The words leave the
    device, and the hub before anybody approved the model, and could carry home what it read. Those
    that a runtime read from the file or the request stay: they say what to do.
    """
    parts, at = [], 0
    for useful in _USEFUL.finditer(text):
        parts += [_NUMBER.sub("#", text[at : useful.start()]), useful[0]]
        at = useful.end()
    return "".join([*parts, _NUMBER.sub("#", text[at:])])
