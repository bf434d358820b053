"""A model's files out of a tar archive that anybody may have made: nothing else gets out of it."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers.base import BYTES_MAX, FILES_MAX
from muster_client.importers.mlflow_files import is_plain
from muster_client.packing.model_file import SUFFIXES
from muster_protocol.wire import limits

MEMBERS_MAX = 10_000
UNPACKED_BYTES_MAX = 2 * BYTES_MAX
"""Of the whole archive: what is passed over has to be unpacked, too."""
HEADER_BYTES_MAX = limits.MIB
"""Of what stands before a member: names of any length stand there."""
PIECE_BYTES = limits.MIB


def extract_model(archive: Path, wanted: str, target: Path, what: str) -> Path:
    """The model's file of a ``.tar.gz``, brought into the folder ``target`` with its data.

    ``wanted`` is its path in the archive; empty: the one model there is. Files beside it whose
    names begin as its own are its data. Links, devices and names that lead out of the archive are
    passed over; ``what`` is for messages. Raises WrongUsage and OperatorError.
    """
    listed = {path: size for path, size, _ in _files(archive, what)}
    model = _chosen([*listed], wanted, what)
    folder = model.rpartition("/")[0]
    chosen = {
        path for path in listed if path.startswith(model) and path.rpartition("/")[0] == folder
    }
    size_bytes = sum(listed[path] for path in chosen)
    if len(chosen) > FILES_MAX or size_bytes > BYTES_MAX:
        raise OperatorError(
            f"{what}: {model} is {len(chosen)} files of {size_bytes} bytes; a bundle has at most "
            f"{FILES_MAX} of {BYTES_MAX} bytes together"
        )
    target.mkdir(parents=True, exist_ok=True)
    for path, _, content in _files(archive, what):
        if path in chosen:
            with (target / PurePosixPath(path).name).open("wb") as file:
                while piece := content.read(PIECE_BYTES):
                    file.write(piece)
    return target / PurePosixPath(model).name


def _chosen(paths: list[str], wanted: str, what: str) -> str:
    models = sorted(path for path in paths if PurePosixPath(path).suffix.lower() in SUFFIXES)
    if wanted:
        if wanted not in models:
            raise WrongUsage(f"{what}: no {wanted} in it; models in it: {_named(models)}")
        return wanted
    if not models:
        raise WrongUsage(
            f"{what}: no file that ends with {', '.join(SUFFIXES)} in it, but {_named(paths)}: "
            "devices run ONNX and TFLite; let the training export one"
        )
    if len(models) > 1:
        raise WrongUsage(f"{what}: which of {_named(models)}? Write /FILE behind it")
    return models[0]


def _named(paths: list[str]) -> str:
    return ", ".join(paths[:10]) + (", …" if len(paths) > 10 else "") or "nothing"


def _files(archive: Path, what: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(Path, size in bytes, content) of each regular file. Raises OperatorError."""
    try:
        with gzip.open(archive, "rb") as unpacked:
            metered = _Metered(unpacked, what)
            with tarfile.open(fileobj=metered, mode="r|") as tar:
                for _ in range(MEMBERS_MAX):
                    member = tar.next()
                    if member is None:
                        return
                    metered.expect(member.size)
                    path = member.name.removeprefix("./")
                    plain = member.type in {tarfile.REGTYPE, tarfile.AREGTYPE}
                    content = tar.extractfile(member) if plain and not member.issparse() else None
                    if content is not None and is_plain(path):
                        yield path, member.size, content
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise OperatorError(f"{what}: no whole .tar.gz: {error}") from None
    raise OperatorError(f"{what}: more than {MEMBERS_MAX} files in it")


class _Metered(io.RawIOBase):
    """What is unpacked, as far as members were announced: a header is never read without end."""

    def __init__(self, unpacked: gzip.GzipFile, what: str) -> None:
        super().__init__()
        self._unpacked = unpacked
        self._what = what
        self._read_bytes = 0
        self._expected_bytes = 0

    def expect(self, size_bytes: int) -> None:
        """A member of this size comes next. Raises OperatorError."""
        self._expected_bytes = self._read_bytes + size_bytes
        if self._expected_bytes > UNPACKED_BYTES_MAX:
            raise OperatorError(
                f"{self._what}: unpacks to more than {UNPACKED_BYTES_MAX} bytes, a limit here"
            )

    def read(self, size_bytes: int = -1, /) -> bytes:
        """As a file's."""
        piece = self._unpacked.read(size_bytes)
        self._read_bytes += len(piece)
        if self._read_bytes > self._expected_bytes + HEADER_BYTES_MAX:
            raise OperatorError(
                f"{self._what}: more than {HEADER_BYTES_MAX} bytes before a file in it"
            )
        return piece
