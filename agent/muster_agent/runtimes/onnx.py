"""ONNX Runtime. The only module that imports it, and only when a worker asks for it."""

import functools
import importlib
import importlib.util
import mmap
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from muster_agent.runtimes.base import (
    Array,
    ModelError,
    Needs,
    OutOfMemoryError,
    Package,
    shorten,
)
from muster_agent.runtimes.onnx_file import OnnxFileError, external_files
from muster_agent.runtimes.onnx_providers import NO_CPU, asked, named, needs_of, present
from muster_agent.runtimes.onnx_values import decoded, output_of, tensor_of
from muster_protocol.wire.manifest import Provider, ProviderName

_ADVICE = (
    (
        re.compile(r"model IR version: (\d{1,4}), max supported IR version: (\d{1,4})"),
        (
            "max supported IR version {1}; this model has {0}: set ir_version to {1} with the onnx "
            "package and save it again, or install a newer onnxruntime"
        ),
    ),
    (
        re.compile(r"Opset (\d{1,4}) is under development.*till opset (\d{1,4})\b", re.DOTALL),
        (
            "max supported opset {1}; this model has {0}: export it with opset {1} or lower, "
            "convert it with onnx.version_converter, or install a newer onnxruntime"
        ),
    ),
    (
        re.compile(r"Fatal error: ([\w.]{0,64}:\w{1,64})\(-?\d+\) is not a registered"),
        "the operator {0} is none of ONNX Runtime's: export the model without custom operators",
    ),
    (
        re.compile(r"No Op registered for (\w{1,64}) with domain_version of (\d{1,4})\b"),
        "opset {1} has no operator {0}: export the model again with the opset that it needs",
    ),
)
"""What ONNX Runtime says, and what to do about it."""
_MEMORY_MARKS = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory")
"""How onnxruntime words an allocation that failed; it has no exception type for it."""


class OnnxBackend:
    """What the registry holds."""

    packages = (
        Package(
            "onnxruntime",
            "onnxruntime",
            oldest=(1, 24),
            others=("onnxruntime-openvino", "onnxruntime-gpu"),
        ),
    )
    """Before that it read any file that a model named as its tensors'."""

    platform = "onnx_onnxv1"

    def providers(self, module: str) -> tuple[ProviderName, ...]:
        return _present(module)

    def needs(self, providers: Sequence[Provider]) -> Needs:
        return needs_of(providers)

    def prepare(self, module: str) -> None:
        _imported(module)
        _present(module)

    def load(
        self,
        source: Path | bytes,
        *,
        module: str,
        threads: int,
        side_files: Mapping[str, int],
        providers: Sequence[Provider],
    ) -> "OnnxModel":
        return OnnxModel(
            source, module=module, threads=threads, side_files=side_files, providers=providers
        )


BACKEND = OnnxBackend()


@functools.cache
def _present(module: str) -> tuple[ProviderName, ...]:
    """Kept from the first look on: where a model is loaded it may be the last one possible."""
    found = importlib.util.find_spec(module)
    places = (found.submodule_search_locations or []) if found is not None else []
    return present(Path(next(iter(places), "")) / "capi")


def _imported(module: str) -> Any:
    # From 1.29 on, onnxruntime reports to its maker and writes a device id below the home directory
    # unless this is set before the import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module(module)


class OnnxModel:
    """A session that keeps no idle thread spinning, on the CPU unless told otherwise."""

    def __init__(
        self,
        source: Path | bytes,
        *,
        module: str = "onnxruntime",
        threads: int = 1,
        side_files: Mapping[str, int] = MappingProxyType({}),
        providers: Sequence[Provider] = (),
    ) -> None:
        """``side_files`` are open descriptors by name: the only files that tensors may lie in.

        The first of ``providers`` that starts computes it; what it can't compute, or all where it
        doesn't start, is for those after it, and for no other.
        """
        onnxruntime = _imported(module)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        with ExitStack() as stack:
            maps = {
                name: stack.enter_context(_mapped(side_files[name]))
                for name in _external(source, side_files)
            }
            if maps:
                # It reads these, and opens nothing by a name that the model gives.
                options.add_external_initializers_from_files_in_memory(
                    list(maps), list(maps.values()), [len(each) for each in maps.values()]
                )
            self._session = _session(
                onnxruntime, source, options, providers or (Provider("CPU"),), threads
            )
        names = self._session.get_providers()
        self.providers = named(names, providers or (Provider("CPU"),))
        # Its arena keeps all that it ever took, also what a request was refused for.
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._options: Any = None
        self.inputs = tuple(
            tensor_of(node.name, node.type, node.shape) for node in self._session.get_inputs()
        )
        found = (
            output_of(node.name, node.type, node.shape) for node in self._session.get_outputs()
        )
        given = {output.tensor.name: output for output in found if output is not None}
        self._converters = {name: output.convert for name, output in given.items()}
        self._text_inputs = [tensor.name for tensor in self.inputs if tensor.datatype == "BYTES"]
        self.outputs = tuple(output.tensor for output in given.values())
        self.keep([tensor.name for tensor in self.outputs])

    def keep(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._converted = [
            (name, convert) for name in names if (convert := self._converters[name]) is not None
        ]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self._text_inputs:
            texts = {name: decoded(name, inputs[name]) for name in self._text_inputs}
            inputs = {**inputs, **texts}
        try:
            given = self._session.run(self._names, inputs, self._options)
        except Exception as error:
            translated = _translated(error, "the model failed")
            if isinstance(translated, OutOfMemoryError):
                self._options = self._shrinking
            raise translated from None
        self._options = None
        answers = dict(zip(self._names, given, strict=True))
        for name, convert in self._converted:
            answers[name] = convert(answers[name])
        return answers


def _session(
    onnxruntime: Any,
    source: Path | bytes,
    options: Any,
    providers: Sequence[Provider],
    threads: int,
) -> Any:
    """A session with the first provider that starts; raises ModelError."""
    on_cpu = any(provider.name == "CPU" for provider in providers)
    options.add_session_config_entry(NO_CPU, "0" if on_cpu else "1")
    given = source if isinstance(source, bytes) else str(source)
    for number, first in enumerate(providers):
        left = asked(providers[number:], threads)
        try:
            # By itself it would go on without a provider that doesn't start, and only log it.
            made = onnxruntime.InferenceSession(given, options, providers=left, enable_fallback=0)
        except Exception as error:
            where = "" if first.name == "CPU" else f" on {first.name}"
            failed = _translated(error, f"onnxruntime can't load the model{where}")
            if number + 1 < len(providers) and not isinstance(failed, OutOfMemoryError):
                continue
            raise failed from None
        if made.get_providers()[0] == left[0][0]:
            return made
    raise ModelError(f"onnxruntime can't start {providers[-1].name} here")


def _external(source: Path | bytes, side_files: Mapping[str, int]) -> list[str]:
    """The side files that a model's tensors lie in; raises ModelError for any other file."""
    try:
        if isinstance(source, bytes):
            named = external_files(source)
        else:
            with (
                source.open("rb") as file,
                _mapped(file.fileno()) as data,
                memoryview(data) as view,
            ):
                named = external_files(view)
    except (OnnxFileError, OSError) as error:
        raise ModelError(f"onnxruntime can't load the model: {error}") from None
    outside = sorted(named - side_files.keys())
    if outside:
        raise ModelError(
            f"the model's tensors lie in {outside[0][:100]!r}, which is no file of its bundle: "
            "pack it beside the model under that very name"
        )
    return sorted(named)


def _mapped(descriptor: int) -> mmap.mmap:
    size = os.lseek(descriptor, 0, os.SEEK_END)  # it may not be allowed to ask in other ways
    if size == 0:
        raise ModelError("onnxruntime can't load the model: a file of it is empty")
    return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)


def _advice(text: str) -> str | None:
    """What to do, where that is known of an error of ONNX Runtime."""
    for pattern, words in _ADVICE:
        match = pattern.search(text)
        if match is not None:
            return words.format(*match.groups())
    return None


def _translated(error: Exception, what: str) -> ModelError:
    text = _advice(str(error)) or shorten(error)
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _MEMORY_MARKS):
        return OutOfMemoryError(f"{what}: out of memory: {text}")
    return ModelError(f"{what}: {text}")
