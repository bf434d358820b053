"""A bundle's folder: the files, and the manifest that lists them."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from muster_client.failures import OperatorError, WrongUsage
from muster_client.packing.declare import is_held
from muster_protocol.signals import watching
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire import manifest, sampling, usable
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.listing import cut_file
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.tensors import Tensor

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Cases:
    """Golden vectors: requests and their answers, rows first."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    count: int
    group: int
    """Rows of a case."""


def write(
    folder: Path,
    files: Mapping[str, bytes | Path],
    fields: Mapping[str, Any],
    cases: Cases,
    fitted: Baseline | None,
) -> tuple[Manifest, int]:
    """Write ``files``, golden vectors and a manifest of them and ``fields``.

    Returns it and the bytes in all. An earlier bundle in the folder is replaced; a folder with
    anything else in it is left alone. Raises WrongUsage, and ProtocolError for a manifest that no
    device would take.
    """
    made = folder.with_name(f".{folder.name}.{os.getpid()}.packing")
    shutil.rmtree(made, ignore_errors=True)
    try:
        _check_free(folder)
        made.mkdir(parents=True)
        for name, content in files.items():
            if isinstance(content, Path):
                shutil.copyfile(content, made / name)
            else:
                (made / name).write_bytes(content)
        built = Manifest(files=(), **fields)
        if built.format == 1:
            built = replace(built, format=manifest.least_format(built))
        golden(made / built.golden.file, cases, built)
        entries = []
        for path in sorted(made.iterdir()):
            with path.open("rb") as file:
                entries.append(cut_file(path.name, file, lambda _piece: None))
        built = replace(built, files=tuple(entries))
        encoded = manifest.encode(built)
        usable.check(built)
        allowed = files.get(sampling.FILE)
        if isinstance(allowed, bytes):
            sampling.check_limits(sampling.decode_limits(allowed), built)
        if fitted is not None:
            watching.check(built, fitted)
        (made / MANIFEST).write_bytes(encoded)
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    except OSError as error:
        raise OperatorError(f"{error.filename or folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return built, sum(entry.size_bytes for entry in entries) + len(encoded)


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise WrongUsage(f"{folder} is a file: name a folder for the bundle with -o")
    if folder.is_dir() and {path.name for path in folder.iterdir()} - _listed(folder):
        raise WrongUsage(f"{folder} holds files of no earlier bundle: name another with -o")


def _listed(folder: Path) -> set[str]:
    """Files of the bundle that a folder holds; none when it holds none."""
    try:
        found = manifest.decode((folder / MANIFEST).read_bytes())
    except (OSError, ProtocolError):
        return set()
    return {MANIFEST, *(entry.path for entry in found.files)}


def golden(path: Path, cases: Cases, built: Manifest) -> None:
    """Write golden vectors in the form of the manifest's format."""
    arrays: dict[str, NDArray[Any]] = {}
    for kind, tensors, values in (
        ("input", built.inputs, cases.inputs),
        ("output", built.outputs, cases.outputs),
    ):
        for tensor in tensors:
            array = values[tensor.name]
            if built.format == 1:
                arrays[f"{kind}:{tensor.name}"] = _plain(array)
                continue
            for case in range(cases.count):
                group = cases.group if kind == "input" or tensor.batch is not None else 1
                arrays[f"{case}/{kind}:{tensor.name}"] = _plain(_case(array, tensor, case, group))
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # names of arrays


def _case(array: NDArray[Any], tensor: Tensor, case: int, group: int) -> NDArray[Any]:
    axis = tensor.batch
    if axis is None:
        whole: NDArray[Any] = np.asarray(array[case * group])
        return whole
    rows = array[case * group : (case + 1) * group]
    if is_held(rows):
        rows = np.stack([np.asarray(row) for row in rows])
    return np.ascontiguousarray(np.moveaxis(rows, 0, axis))


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Texts as bytes of one length, since a device reads no pickled objects."""
    if array.dtype.kind not in "OU":
        return array
    texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.ravel().tolist()]
    return np.array(texts, np.bytes_).reshape(array.shape)
