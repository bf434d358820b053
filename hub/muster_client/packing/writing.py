"""A bundle's folder: the files, and the manifest that lists them."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import OperatorError, WrongUsage
from muster_protocol.signals import watching
from muster_protocol.signals.baseline import Baseline
from muster_protocol.wire import manifest, usable
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.listing import cut_file
from muster_protocol.wire.manifest import Manifest

MANIFEST = "manifest.json"


def write(
    folder: Path,
    files: Mapping[str, bytes | Path],
    fields: Mapping[str, Any],
    fitted: Baseline | None,
) -> tuple[Manifest, int]:
    """Write ``files`` and a manifest of them and ``fields``; returns it and the bytes in all.

    An earlier bundle in the folder is replaced; a folder with anything else in it is left alone.
    Raises WrongUsage, and ProtocolError for a manifest that no device would take.
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
        entries = []
        for name in sorted(files):
            with (made / name).open("rb") as file:
                entries.append(cut_file(name, file, lambda _piece: None))
        built = Manifest(files=tuple(entries), **fields)
        encoded = manifest.encode(built)
        usable.check(built)
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


def golden(
    inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], path: Path
) -> None:
    """Write golden vectors: arrays ``input:NAME`` and ``output:NAME``, cases first."""
    arrays = {f"input:{name}": _plain(array) for name, array in inputs.items()}
    arrays |= {f"output:{name}": _plain(array) for name, array in outputs.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # names of arrays


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Texts as bytes of one length, since a device reads no pickled objects."""
    if array.dtype.kind not in "OU":
        return array
    texts = [t if isinstance(t, bytes) else str(t).encode() for t in array.ravel().tolist()]
    return np.array(texts, np.bytes_).reshape(array.shape)
