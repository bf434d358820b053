"""TFLite through ``ai-edge-litert`` or ``tflite-runtime``; a worker alone imports either."""

import importlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from muster_agent.runtimes import smallest
from muster_agent.runtimes.base import (
    NAMES,
    Array,
    ModelError,
    Needs,
    OutOfMemoryError,
    Package,
    UnfitInputError,
    shape_fits,
    shorten,
)
from muster_protocol.wire.manifest import PROVIDERS, Provider, ProviderName
from muster_protocol.wire.tensors import FLOATS, Datatype, Quantisation, Tensor

_DATATYPES: dict[type, Datatype] = {dtype.type: name for dtype, name in NAMES.items()} | {
    np.bytes_: "BYTES",
    np.str_: "BYTES",
}
_MEMORY_MARKS = ("bad_alloc", "Cannot allocate memory", "failed to allocate", "mmap")
"""How the interpreter words an allocation that failed; it has no exception type for it."""


class TfliteBackend:
    """What the registry holds."""

    packages = (
        Package("ai_edge_litert", "ai-edge-litert"),
        Package("tflite_runtime", "tflite-runtime"),
    )

    platform = "tflite_tflitev3"

    def providers(self, module: str) -> tuple[ProviderName, ...]:  # noqa: ARG002  # both have both
        return PROVIDERS["tflite"]

    def needs(self, providers: Sequence[Provider]) -> Needs:  # noqa: ARG002  # neither asks more
        return "nothing"

    def prepare(self, module: str) -> None:
        _imported(module)
        smallest.start(module)

    def load(
        self,
        source: Path | bytes,
        *,
        module: str,
        threads: int,
        side_files: Mapping[str, int],  # noqa: ARG002  # a TFLite model is one file
        providers: Sequence[Provider],
    ) -> "TfliteModel":
        return TfliteModel(source, module=module, threads=threads, providers=providers)


BACKEND = TfliteBackend()


def _imported(module: str) -> Any:
    return importlib.import_module(f"{module}.interpreter")


class TfliteModel:
    """One interpreter behind a lock: it isn't thread-safe, and wrong answers would be silent.

    A batch size other than the last one resizes the inputs, which costs a new allocation.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        module: str = "ai_edge_litert",
        threads: int = 1,
        providers: Sequence[Provider] = (),
    ) -> None:
        interpreter = _imported(module)
        first = providers[0] if providers else Provider("XNNPACK")
        if first.options:
            raise ModelError(f"{first.name} takes no options, not {', '.join(first.options)}")
        self.providers: tuple[ProviderName, ...] = ("XNNPACK", "CPU")
        kernels = interpreter.OpResolverType.AUTO
        if first.name == "CPU":
            self.providers = ("CPU",)
            kernels = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._lock = threading.Lock()
        given = (
            {"model_content": source} if isinstance(source, bytes) else {"model_path": str(source)}
        )
        try:
            self._interpreter = interpreter.Interpreter(
                num_threads=threads, experimental_op_resolver_type=kernels, **given
            )
            self._interpreter.allocate_tensors()
            ins = self._interpreter.get_input_details()
            outs = self._interpreter.get_output_details()
        except Exception as error:
            raise _translated(error, f"{module} can't load the model") from None
        self.inputs = tuple(_tensor(detail) for detail in ins)
        self.outputs = tuple(_tensor(detail) for detail in outs)
        self._ins = {str(detail["name"]): int(detail["index"]) for detail in ins}
        self._outs = {str(detail["name"]): int(detail["index"]) for detail in outs}
        self._kept = self._outs
        self._shapes = {
            str(detail["name"]): tuple(int(size) for size in detail["shape"]) for detail in ins
        }

    def keep(self, names: Sequence[str]) -> None:
        self._kept = {name: self._outs[name] for name in names}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        interpreter = self._interpreter
        with self._lock:
            try:
                self._fit({name: inputs[name].shape for name in self._ins})
                for name, index in self._ins.items():
                    interpreter.set_tensor(index, inputs[name])
                interpreter.invoke()
                # get_tensor copies: the interpreter reuses its own memory at the next run.
                return {name: interpreter.get_tensor(index) for name, index in self._kept.items()}
            except (UnfitInputError, OutOfMemoryError):
                raise
            except Exception as error:
                raise _translated(error, "the model failed") from None

    def _fit(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        # The interpreter would take other shapes too and answer with nonsense.
        for tensor in self.inputs:
            if not shape_fits(tensor.shape, shapes[tensor.name]):
                raise UnfitInputError(
                    f"input {tensor.name!r} can't have shape {list(shapes[tensor.name])}"
                )
        self._shapes = {}  # unknown until every resize below has worked
        try:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._ins[name], shape)
            self._interpreter.allocate_tensors()
        except Exception as error:
            # It has run at other shapes: these are more than it, or its memory, can take.
            said = _translated(error, "the model can't take such shapes here")
            if isinstance(said, OutOfMemoryError):
                raise said from None
            wanted = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise UnfitInputError(f"{said} ({wanted}): send fewer elements at once") from None
        self._shapes = shapes


def _tensor(detail: dict[str, Any]) -> Tensor:
    name = str(detail["name"])
    datatype = _DATATYPES.get(detail["dtype"])
    if datatype is None:
        raise ModelError(f"tensor {name!r} has type {detail['dtype']}, which can't be served")
    signature = detail.get("shape_signature", ())
    shape = signature if len(signature) else detail["shape"]
    return Tensor(
        name,
        datatype,
        tuple(int(size) for size in shape),
        quantisation=_quantisation(datatype, detail.get("quantization", (0.0, 0))),
    )


def _quantisation(datatype: Datatype, given: tuple[float, int]) -> Quantisation | UnsetType:
    scale, zero_point = given
    if not scale > 0 or datatype in FLOATS:
        return UNSET
    return Quantisation(float(scale), int(zero_point))


def _translated(error: Exception, what: str) -> ModelError:
    text = shorten(error)
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _MEMORY_MARKS):
        return OutOfMemoryError(f"{what}: out of memory: {text}")
    return ModelError(f"{what}: {text}")
