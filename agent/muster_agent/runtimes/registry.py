"""The runtimes there are, one file each, and which of them this device has.

The supervisor asks ``available`` and never imports a runtime's package; a worker calls ``load``.
"""

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import assert_never

from muster_agent.runtimes import onnx, tflite
from muster_agent.runtimes.base import Backend, LoadedModel, Needs, NoRuntimeError, Package
from muster_protocol.registry import Registry, UnknownWordError
from muster_protocol.wire.manifest import Provider, Runtime, lacking


def _backend_of(runtime: Runtime) -> Backend:
    match runtime:
        case "onnx":
            return onnx.BACKEND
        case "tflite":
            return tflite.BACKEND
        case _:
            assert_never(runtime)


RUNTIMES = Registry[Runtime, Backend]("runtime", Runtime, _backend_of)
MODULES = tuple(item.module for backend in RUNTIMES.values() for item in backend.packages)
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


def needs(runtime: str, providers: Sequence[Provider]) -> Needs:
    """What the providers that are here ask of a worker's process; raises NoRuntimeError."""
    backend, module, _ = _usable(runtime)
    has = backend.providers(module)
    return backend.needs([provider for provider in providers if provider.name in has])


def load(
    runtime: str,
    source: Path | bytes,
    *,
    threads: int = 1,
    side_files: Mapping[str, int] = MappingProxyType({}),
    providers: Sequence[Provider] = (),
) -> LoadedModel:
    """Load a model from its file or its bytes; raises NoRuntimeError, OutOfMemoryError, ModelError.

    ``threads`` bounds the threads of one run. ``side_files`` are open descriptors, by name, of the
    files that may hold a part of the model. ``providers`` are to compute it, preferred first; of
    those that are not here the next is taken, and without any it is NoRuntimeError.
    """
    backend, module, _ = _usable(runtime)
    has = backend.providers(module)
    usable = [provider for provider in providers if provider.name in has]
    if providers and not usable:
        raise NoRuntimeError(lacking(runtime, [provider.name for provider in providers], has))
    return backend.load(
        source, module=module, threads=threads, side_files=side_files, providers=usable
    )


def providers() -> dict[str, tuple[str, ...]]:
    """What each runtime of this device can compute with, without importing any."""
    found: dict[str, tuple[str, ...]] = {}
    for runtime, backend in RUNTIMES.items():
        provided = _provided(backend)
        if provided is not None:
            found[str(runtime)] = backend.providers(provided[0])
    return found


def _usable(runtime: str) -> tuple[Backend, str, str]:
    """A runtime, the module that provides it here, and its version; raises NoRuntimeError."""
    try:
        backend = RUNTIMES.find(runtime)
    except UnknownWordError as error:
        raise NoRuntimeError(f"{error}: install a newer agent") from None
    provided = _provided(backend)
    if provided is None:
        wanted = " or ".join(_wanted(package) for package in backend.packages)
        raise NoRuntimeError(f"no {runtime} runtime is installed here: install {wanted}")
    return (backend, *provided)


def _provided(backend: Backend) -> tuple[str, str] | None:
    """(module, version) of what provides a runtime here, or None."""
    found = ((package.module, _version(package)) for package in backend.packages)
    return next(((module, version) for module, version in found if version), None)


@functools.cache
def _version(package: Package) -> str:
    """Version of a package that is installed here; empty when it is not, or too old.

    Kept from the first look on: where a model is loaded it may be the last one possible.
    """
    if importlib.util.find_spec(package.module) is None:
        return ""
    for distribution in (package.distribution, *package.others):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return version if _release(version) >= package.oldest else ""
    return "unknown"


def _release(version: str) -> tuple[float, float]:
    """The first two numbers of a version; one without any is believed to be new."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (float("inf"), 0)


def _wanted(package: Package) -> str:
    if package.oldest == (0, 0):
        return package.distribution
    return "{}>={}.{}".format(package.distribution, *package.oldest)
