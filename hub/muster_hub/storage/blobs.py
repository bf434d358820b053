"""Chunks and manifests, each under its SHA-256, in a folder or a bucket. Checked when read."""

from pathlib import Path
from typing import Protocol

from muster_hub.errors import HubError, NotFound
from muster_hub.storage.files import write_durably
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.topics import check_sha256


class BlobDamaged(HubError):
    """A blob is no longer what its name says."""

    code = "blob_damaged"


class BlobsAway(HubError):
    """Where blobs are kept can't be reached, or refuses: nothing is known of what is there."""

    code = "blobs_away"
    status = 503


class Place(Protocol):
    """Where bytes are kept under names. Safe from several threads and processes; what fails for a
    while raises BlobsAway."""

    def write(self, name: str, data: bytes) -> None:
        """Keep the bytes durably: whole, or not at all."""
        ...

    def read(self, name: str) -> bytes | None:
        """The bytes; None when there are none of that name."""
        ...

    def size_bytes(self, name: str) -> int | None:
        """How many there are; None when there are none of that name."""
        ...

    def where(self, name: str) -> str:
        """For people: where they lie."""
        ...


class Folder:
    """``<directory>/ab/<name>``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, name: str, data: bytes) -> None:
        """Raises OSError."""
        write_durably(self._path(name), data)

    def read(self, name: str) -> bytes | None:
        """Raises OSError."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def size_bytes(self, name: str) -> int | None:
        """Raises OSError."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None

    def where(self, name: str) -> str:
        """Its path."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self._directory / name[:2] / name


class Blobs:
    """By hash: a blob never changes, so what is there already isn't written again."""

    def __init__(self, place: Path | Place, *, before: Place | None = None) -> None:
        """``before``: where blobs lay before there was ``place``; they are still read there."""
        self._place: Place = Folder(place) if isinstance(place, Path) else place
        self._before = before

    def put(self, data: bytes | memoryview) -> str:
        """Keep the bytes and return their name. Raises BlobsAway or OSError."""
        name = sha256_hex(data)
        if self._place.size_bytes(name) is None:
            self._place.write(name, bytes(data))
        return name

    def read(self, name: str) -> bytes:
        """The bytes of a blob; raises NotFound, BlobsAway, or BlobDamaged when they don't match the
        name.
        """
        check_sha256(name)
        place = self._place
        data = place.read(name)
        if data is None and self._before is not None:
            place = self._before
            data = place.read(name)
        if data is None:
            raise NotFound(f"there is no blob {name}")
        if sha256_hex(data) != name:
            raise BlobDamaged(
                f"{place.where(name)} is damaged: delete it and push the version again"
            )
        return data

    def has(self, name: str) -> bool:
        """Whether bytes of that name are here. Raises BlobsAway."""
        return self._size_bytes(name) is not None

    def size_bytes(self, name: str) -> int:
        """Raises NotFound or BlobsAway."""
        size = self._size_bytes(name)
        if size is None:
            raise NotFound(f"there is no blob {name}")
        return size

    def _size_bytes(self, name: str) -> int | None:
        check_sha256(name)
        size = self._place.size_bytes(name)
        if size is None and self._before is not None:
            return self._before.size_bytes(name)
        return size
