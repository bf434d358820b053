"""The runtimes there are, one file each, and which of them this device has.

The supervisor asks ``available`` and never imports a runtime's package; a worker calls ``load``.
"""

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import assert_never

from muster_agent.runtimes import onnx, tflite
from muster_agent.runtimes.base import Backend, Model, NoRuntimeError, Provider
from muster_protocol.registry import Registry, UnknownWordError
from muster_protocol.wire.manifest import Runtime


def _backend_of(runtime: Runtime) -> Backend:
    match runtime:
        case "onnx":
            return onnx.BACKEND
        case "tflite":
            return tflite.BACKEND
        case _:
            assert_never(runtime)


RUNTIMES = Registry[Runtime, Backend]("runtime", Runtime, _backend_of)
MODULES = tuple(item.module for backend in RUNTIMES.values() for item in backend.providers)
"""Every module that may provide a runtime."""


def available() -> dict[str, str]:
    """Version of each runtime this device has, by runtime name, without importing any."""
    found = {}
    for runtime, backend in RUNTIMES.items():
        provided = _provided(backend)
        if provided is not None:
            found[str(runtime)] = provided[1]
    return found


def version_of(runtime: str) -> str:
    """Version of a runtime this device has; raises NoRuntimeError."""
    return _usable(runtime)[2]


def prepare(runtime: str) -> None:
    """Import a runtime without loading a model, so that memory can be counted from there.

    Raises NoRuntimeError.
    """
    backend, module, _ = _usable(runtime)
    backend.prepare(module)


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
    backend, module, _ = _usable(runtime)
    return backend.load(source, module=module, threads=threads, side_files=side_files)


def _usable(runtime: str) -> tuple[Backend, str, str]:
    """A runtime, the module that provides it here, and its version; raises NoRuntimeError."""
    try:
        backend = RUNTIMES.find(runtime)
    except UnknownWordError as error:
        raise NoRuntimeError(f"{error}: install a newer agent") from None
    provided = _provided(backend)
    if provided is None:
        wanted = " or ".join(_wanted(provider) for provider in backend.providers)
        raise NoRuntimeError(f"no {runtime} runtime is installed here: install {wanted}")
    return (backend, *provided)


def _provided(backend: Backend) -> tuple[str, str] | None:
    """(module, version) of what provides a runtime here, or None."""
    found = ((provider.module, _version(provider)) for provider in backend.providers)
    return next(((module, version) for module, version in found if version), None)


@functools.cache
def _version(provider: Provider) -> str:
    """Version of a package that is installed here; empty when it is not, or too old.

    Kept from the first look on: where a model is loaded it may be the last one possible.
    """
    if importlib.util.find_spec(provider.module) is None:
        return ""
    try:
        version = importlib.metadata.version(provider.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    return version if _release(version) >= provider.oldest else ""


def _release(version: str) -> tuple[float, float]:
    """The first two numbers of a version; one without any is believed to be new."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (float("inf"), 0)


def _wanted(provider: Provider) -> str:
    if provider.oldest == (0, 0):
        return provider.distribution
    return "{}>={}.{}".format(provider.distribution, *provider.oldest)
