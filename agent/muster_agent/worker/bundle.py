"""A bundle's files, hashed and then used through the same open descriptors.

What is loaded is what was hashed: a file that rots or is replaced after the check can't run.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from muster_agent.base.system_error import as_refusal
from muster_protocol.wire import manifest as manifests
from muster_protocol.wire.errors import MusterError, ProtocolError, Refusal
from muster_protocol.wire.limits import GOLDEN_BYTES_MAX, MANIFEST_BYTES_MAX, MIB
from muster_protocol.wire.manifest import Build, File, Manifest


class StartRefused(MusterError):
    """A candidate that must not serve; ``refusal`` names the reason on the wire."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


def read_manifest(bundle: Path, sha256: str | None = None) -> tuple[Manifest, str]:
    """The bundle's manifest and its hash, checked against ``sha256`` when given."""
    path = bundle / "manifest.json"
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_BYTES_MAX + 1)
    except OSError as error:
        raise StartRefused(*as_refusal(error, Refusal.FILE_MISMATCH)) from None
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise StartRefused(
            Refusal.FILE_MISMATCH, f"{path}: its hash is {found[:12]}…, expected {sha256[:12]}…"
        )
    try:
        return manifests.decode(data), found
    except ProtocolError as error:
        raise StartRefused(Refusal.MALFORMED, str(error)) from None


def choose_build(manifest: Manifest, runtime: str | None, have: tuple[str, ...]) -> Build:
    """The build for ``runtime``, or the first one that can run here."""
    wanted = have if runtime is None else (runtime,)
    build = manifest.build_for(wanted)
    if build is None:
        offered = ", ".join(entry.runtime for entry in manifest.builds)
        raise StartRefused(
            Refusal.NO_RUNTIME,
            f"{manifest.model} {manifest.version} has builds for {offered}; "
            f"asked for or installed here: {', '.join(wanted) or 'none'}",
        )
    return build


class OpenBundle:
    """The files that one build needs, open and hashed."""

    def __init__(self, bundle: Path, manifest: Manifest, build: Build) -> None:
        self._descriptors: dict[str, int] = {}
        self.build = build
        self.manifest = manifest
        golden = manifest.file(manifest.golden.file)
        if golden.size_bytes > GOLDEN_BYTES_MAX:
            raise StartRefused(
                Refusal.TOO_LARGE,
                f"golden vectors of {golden.size_bytes} bytes, the limit is {GOLDEN_BYTES_MAX}",
            )
        try:
            for entry in manifest.files_for(build):
                self._descriptors[entry.path] = _open_checked(bundle / entry.path, entry)
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> Mapping[str, int]:
        """Of every file, by name; closed with this bundle."""
        return self._descriptors

    def path(self, name: str) -> Path:
        """A path that opens the very file that was hashed."""
        return Path(f"/proc/self/fd/{self._descriptors[name]}")

    def file(self, name: str) -> IO[bytes]:
        """The very file that was hashed, from its beginning; close it before this bundle."""
        os.lseek(self._descriptors[name], 0, os.SEEK_SET)
        return open(self._descriptors[name], "rb", closefd=False)  # no path

    def close(self) -> None:
        """Close the files; what was loaded from them stays loaded."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_checked(path: Path, entry: File) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StartRefused(*as_refusal(error, Refusal.FILE_MISMATCH)) from None
    try:
        found, size = _hash(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise StartRefused(Refusal.FILE_MISMATCH, f"{path}: {error.strerror}") from None
    if size != entry.size_bytes or found != entry.sha256:
        os.close(descriptor)
        raise StartRefused(
            Refusal.FILE_MISMATCH,
            f"{path}: expected {entry.size_bytes} bytes with hash {entry.sha256[:12]}…, "
            f"found {size} with {found[:12]}…",
        )
    return descriptor


def _hash(descriptor: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        digest.update(view[:count])
        size += count
    return digest.hexdigest(), size
