"""The content store: verified chunks by name, and the bundles put together from them.

``chunks/ab/<sha256>`` holds what was fetched, ``bundles/<manifest sha256>/`` what is installed. A
bundle's directory takes its name only when every file in it has been hashed. A chunk is hashed
again whenever it is read, so what rots on the disk is found and fetched anew.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path

from muster_agent.storage.files import (
    PART_SUFFIX,
    DurableBatch,
    DurableWriter,
    make_directory,
    remove_durably,
    rename_durably,
    write_durably,
)
from muster_protocol.wire import chunks, limits, manifest
from muster_protocol.wire.agent_release import files_of, is_listing
from muster_protocol.wire.errors import MusterError, ProtocolError, Refusal
from muster_protocol.wire.manifest import Build, File, Manifest

MANIFEST = "manifest.json"
_READ_BYTES = limits.MIB
_DECODED_MAX = 8

decode_manifest = lru_cache(_DECODED_MAX)(manifest.decode)
"""What a manifest says, remembered by its bytes: they are looked at with every report."""


def listed_in(data: bytes) -> tuple[File, ...]:
    """The files that a manifest, or the listing of a release of the agent, names; raises
    ProtocolError."""
    return files_of(data) if is_listing(data) else decode_manifest(data).files


class StoreRefused(MusterError):
    """The store can't take or put together something; ``refusal`` is its name on the wire."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class ChunksMissing(MusterError):
    """Chunks an assembly needs are not, or no longer, in the store: fetch them again."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        super().__init__(f"{len(digests)} chunks are missing, first {digests[0]}")
        self.digests = digests


def disk_free_bytes(path: Path) -> int:
    """Bytes that a program without root's rights may still use there."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class Store:
    """One device's store. Used by the supervisor's thread only; raises OSError as the disk does."""

    def __init__(
        self,
        directory: Path,
        *,
        cache_bytes: int = 512 * limits.MIB,
        free_bytes_min: int = 64 * limits.MIB,
        free_bytes: Callable[[Path], int] = disk_free_bytes,
    ) -> None:
        self.directory = directory
        self._chunks = directory / "chunks"
        self._bundles = directory / "bundles"
        self._cache_bytes = cache_bytes
        self._free_bytes_min = free_bytes_min
        self._free_bytes = free_bytes
        self._batch = DurableBatch(directory)
        self._reusable: dict[str, tuple[Path, int]] | None = None
        self._swept: tuple[frozenset[str], frozenset[str]] | None = None
        """What the last sweep was to keep; None when something was written since."""

    def clean(self) -> None:
        """At start: remove what an interrupted write left behind."""
        make_directory(self._chunks)
        make_directory(self._bundles)
        for part in self._bundles.glob(f"*{PART_SUFFIX}"):
            shutil.rmtree(part)
        for part in self._chunks.glob(f"*/*{PART_SUFFIX}"):
            part.unlink()

    def free_bytes(self) -> int:
        """Free space of the disk that the store is on."""
        return self._free_bytes(self.directory)

    def preflight(self, need_bytes: int) -> None:
        """Raise StoreRefused(NO_SPACE) unless ``need_bytes`` leave the watermark free."""
        free = self.free_bytes()
        if free - need_bytes < self._free_bytes_min:
            raise StoreRefused(
                Refusal.NO_SPACE,
                f"{self.directory}: the update needs {need_bytes} bytes and must leave "
                f"{self._free_bytes_min} free, but only {free} are: free some space",
            )

    # Chunks

    def has(self, digest: str) -> bool:
        """Whether a chunk is here, as a file or inside an installed bundle."""
        return self._chunk_path(digest).is_file() or digest in self._reuse()

    def put(self, digest: str, data: bytes | memoryview) -> None:
        """Keep a chunk or manifest under its name; the caller has hashed it. Raises OSError."""
        self._swept = None
        path = self._chunk_path(digest)
        make_directory(path.parent)
        write_durably(path, data)

    def add(self, digest: str, data: bytes | memoryview) -> int:
        """Keep a chunk, hashed by the caller, from the next ``commit`` on. Raises OSError.

        Returns the bytes that wait for it: to sync each chunk alone takes ten times as long.
        """
        self._swept = None
        self._batch.add(self._chunk_path(digest), data)
        return self._batch.size_bytes

    def commit(self) -> None:
        """Chunks that were added are here from now on. Raises OSError: they are to be fetched."""
        self._swept = None
        self._batch.commit()

    def read(self, digest: str) -> bytes | None:
        """A chunk's bytes, hashed now; None when missing. A rotten copy is removed."""
        path = self._chunk_path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return self._read_installed(digest)
        if chunks.sha256_hex(data) == digest:
            return data
        path.unlink()
        return self._read_installed(digest)

    def chunks_of(self, listed: File) -> tuple[str, ...]:
        """The chunks of a file in order; raises ChunksMissing for its index, ProtocolError."""
        if not listed.index:
            return (listed.sha256,)
        parts = {digest: self.read(digest) for digest in listed.index}
        if missing := tuple(digest for digest, data in parts.items() if data is None):
            raise ChunksMissing(missing)
        index = b"".join(parts[digest] or b"" for digest in listed.index)
        return chunks.parse_index(index, listed.size_bytes)

    # Bundles

    def bundle(self, digest: str) -> Path | None:
        """The directory of an installed bundle."""
        path = self._bundles / digest
        return path if (path / MANIFEST).is_file() else None

    def manifest(self, digest: str) -> bytes | None:
        """The manifest's bytes, hashed now, installed or merely fetched."""
        path = self._bundles / digest / MANIFEST
        if path.is_file():
            data = path.read_bytes()
            if chunks.sha256_hex(data) == digest:
                return data
        return self.read(digest)

    def holds(self, digest: str, files: Iterable[File]) -> bool:
        """True when the bundle is installed with all these files, by size; ``prove`` hashes."""
        bundle = self.bundle(digest)
        return bundle is not None and all(_size(bundle / f.path) == f.size_bytes for f in files)

    def prove(self, digest: str, files: Iterable[File]) -> Iterator[int]:
        """Hash the files of an installed bundle again, yielding the bytes of each step.

        One that has rotted where it lay is discarded, to be fetched anew: raises ChunksMissing.
        Raises OSError.
        """
        for listed in files:
            path = self._bundles / digest / listed.path
            whole = hashlib.sha256()
            with path.open("rb") as file:
                while data := file.read(_READ_BYTES):
                    whole.update(data)
                    yield len(data)
            if whole.hexdigest() != listed.sha256:
                self.discard(digest)
                raise ChunksMissing((listed.sha256,))

    def assemble(self, digest: str, listing: Manifest, build: Build) -> Iterator[int]:
        """Put a bundle together, yielding the bytes of each step, so that a caller can pace it.

        Every chunk and every whole file is hashed. The bundle is installed when the iterator ends.
        Raises ChunksMissing, StoreRefused(FILE_MISMATCH, MALFORMED), OSError.
        """
        self._swept = None
        data = self.manifest(digest)
        if data is None:
            raise ChunksMissing((digest,))
        part = self._bundles / (digest + PART_SUFFIX)
        if part.exists():
            shutil.rmtree(part)
        make_directory(part)
        try:
            for listed in listing.files_for(build):
                yield from self.write_out(part / listed.path, listed)
            write_durably(part / MANIFEST, data)
            target = self._bundles / digest
            if target.exists():
                remove_durably(target)
            rename_durably(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._reusable = None

    def write_out(self, path: Path, listed: File) -> Iterator[int]:
        """Put one file together at ``path``, durably, yielding the bytes of each step.

        Its chunks and the whole are hashed. Raises ChunksMissing, StoreRefused(FILE_MISMATCH,
        MALFORMED), OSError.
        """
        try:
            digests = self.chunks_of(listed)
        except ProtocolError as error:
            raise StoreRefused(Refusal.MALFORMED, f"{listed.path}: {error}") from None
        whole = hashlib.sha256()
        size = 0
        with DurableWriter(path) as writer:
            for digest in digests:
                data = self.read(digest)
                if data is None:
                    raise ChunksMissing((digest,))
                size += len(data)
                if size > listed.size_bytes:
                    break
                whole.update(data)
                writer.write(data)
                yield len(data)
            if size != listed.size_bytes or whole.hexdigest() != listed.sha256:
                raise StoreRefused(
                    Refusal.FILE_MISMATCH,
                    f"{listed.path}: its chunks are as signed, but together they give "
                    f"{size} bytes with another hash than the manifest's: release it again",
                )
            writer.commit()

    # What may go

    def discard(self, digest: str) -> None:
        """Remove the files of an installed bundle that is not what its manifest says.

        A manifest that is still its own stays: its fallback may answer until the files are back.
        """
        self._swept = None
        bundle = self._bundles / digest
        manifest_path = bundle / MANIFEST
        if manifest_path.is_file() and _hash(manifest_path) == digest:
            for path in bundle.iterdir():
                if path != manifest_path:
                    path.unlink()
        elif bundle.exists():
            remove_durably(bundle)
        self._reusable = None

    def sweep(self, keep: AbstractSet[str], fetching: AbstractSet[str]) -> None:
        """Delete bundles not in ``keep`` and chunks nobody needs.

        ``keep`` names every manifest the journal or a pointer knows; ``fetching`` those of them
        not installed yet, whose chunks all stay. Chunks of installed bundles go (the files hold
        them) but for their indexes; others are a cache, oldest first out beyond ``cache_bytes``.
        """
        asked = frozenset(keep), frozenset(fetching)
        if asked == self._swept:
            return  # Nothing was written since: there is nothing more to delete.
        for path in self._bundles.iterdir():
            if path.name.removesuffix(PART_SUFFIX) not in keep:
                _remove(path)
        self._reusable = None
        needed = set(fetching)
        for digest in keep:
            needed |= self._needed_chunks(digest, whole=digest in fetching)
        reusable = self._reuse()
        cached: list[tuple[float, int, Path]] = []
        for path in self._chunks.glob("*/*"):
            if path.name in needed or path.name.endswith(PART_SUFFIX):
                continue
            if path.name in reusable:
                path.unlink()
                continue
            status = path.stat()
            cached.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in cached)
        for _, size, path in sorted(cached):
            if total <= self._cache_bytes:
                break
            path.unlink()
            total -= size
        self._swept = asked

    def _needed_chunks(self, digest: str, *, whole: bool) -> set[str]:
        data = self.manifest(digest)
        if data is None:
            return set()
        needed: set[str] = set()
        for listed in listed_in(data):
            needed |= set(listed.index)
            if whole:
                try:
                    needed |= set(self.chunks_of(listed))
                except ChunksMissing:
                    continue
        return needed

    # Reuse between versions

    def _reuse(self) -> dict[str, tuple[Path, int]]:
        """Where installed files hold chunks, by name. A guess from sizes: reading hashes it."""
        if self._reusable is None:
            self._reusable = {}
            for bundle in self._bundles.glob("*/"):
                if bundle.suffix != PART_SUFFIX:
                    self._reusable |= self._chunks_in(bundle)
        return self._reusable

    def _chunks_in(self, bundle: Path) -> dict[str, tuple[Path, int]]:
        places: dict[str, tuple[Path, int]] = {}
        try:
            listing = decode_manifest((bundle / MANIFEST).read_bytes())
        except (OSError, ProtocolError):
            return places
        for listed in listing.files:
            path = bundle / listed.path
            for number, digest in enumerate(self._index_on_disk(listed)):
                offset = number * limits.CHUNK_BYTES
                if path.is_file() and offset <= listed.size_bytes:
                    places[digest] = (path, offset)
        return places

    def _index_on_disk(self, listed: File) -> tuple[str, ...]:
        if not listed.index:
            return (listed.sha256,)
        index = b""
        for digest in listed.index:
            path = self._chunk_path(digest)
            data = path.read_bytes() if path.is_file() else b""
            if chunks.sha256_hex(data) != digest:
                return ()
            index += data
        return chunks.parse_index(index, listed.size_bytes)

    def _read_installed(self, digest: str) -> bytes | None:
        place = self._reuse().get(digest)
        if place is None:
            return None
        path, offset = place
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(limits.CHUNK_BYTES)
        except OSError:
            data = b""
        if chunks.sha256_hex(data) == digest:
            return data
        del self._reuse()[digest]
        return None

    def _chunk_path(self, digest: str) -> Path:
        return self._chunks / digest[:2] / digest

    # Check

    def problems(self) -> Iterator[str]:
        """Read everything; one line for each file that is not what its name promises."""
        for path in self._chunks.glob("*/*"):
            if not path.name.endswith(PART_SUFFIX) and _hash(path) != path.name:
                yield f"{path}: a chunk that is not what its name says; it will be fetched again"
        for bundle in self._bundles.iterdir():
            if not bundle.name.endswith(PART_SUFFIX):
                yield from self._bundle_problems(bundle)

    def _bundle_problems(self, bundle: Path) -> Iterator[str]:
        path = bundle / MANIFEST
        if not path.is_file() or _hash(path) != bundle.name:
            yield f"{path}: missing, or not the manifest that names the bundle"
            return
        for listed in decode_manifest(path.read_bytes()).files:
            file = bundle / listed.path
            if file.exists() and _hash(file) != listed.sha256:
                yield f"{file}: not what the manifest says; it will not be run"


def _remove(path: Path) -> None:
    if path.name.endswith(PART_SUFFIX):
        shutil.rmtree(path)
    else:
        remove_durably(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _hash(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            whole.update(data)
    return whole.hexdigest()
