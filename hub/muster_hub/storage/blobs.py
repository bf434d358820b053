"""Chunks and manifests in a folder, each under its SHA-256. Written durably, checked when read."""

from pathlib import Path

from muster_hub.errors import HubError, NotFound
from muster_hub.storage.files import write_durably
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.topics import check_sha256


class BlobDamaged(HubError):
    """A blob on disk is no longer what its name says."""

    code = "blob_damaged"


class Blobs:
    """``<directory>/ab/<sha256>``. Safe from several threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, data: bytes | memoryview) -> str:
        """Keep the bytes and return their name; a blob that is there already isn't rewritten."""
        name = sha256_hex(data)
        path = self._path(name)
        if not path.exists():
            write_durably(path, bytes(data))
        return name

    def read(self, name: str) -> bytes:
        """The bytes of a blob; raises NotFound, or BlobDamaged when they don't match the name."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no blob {name}") from None
        if sha256_hex(data) != name:
            raise BlobDamaged(
                f"{self._path(name)} is damaged: delete it and push the version again"
            )
        return data

    def has(self, name: str) -> bool:
        """Whether bytes of that name are here."""
        return self._path(name).exists()

    def size_bytes(self, name: str) -> int:
        """Raises NotFound."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"there is no blob {name}") from None

    def _path(self, name: str) -> Path:
        check_sha256(name)
        return self._directory / name[:2] / name
