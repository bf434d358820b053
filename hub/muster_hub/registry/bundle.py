"""Packing files as a bundle, finding every blob that a packed one needs, and what is of no use."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muster_protocol.signals import baseline, watching
from muster_protocol.wire import (
    agent_release,
    card,
    explanation,
    limits,
    manifest,
    sampling,
    usable,
)
from muster_protocol.wire.chunks import parse_index, sha256_hex
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.limits import CHUNK_BYTES
from muster_protocol.wire.listing import Put, cut_file
from muster_protocol.wire.manifest import File, Manifest
from muster_protocol.wire.sampling import SamplingLimits

_PAPERS: Mapping[str, tuple[int, Callable[[bytes], object]]] = {
    card.FILE: (limits.CARD_BYTES_MAX, card.decode),
    explanation.FILE: (limits.EXPLANATION_BYTES_MAX, explanation.decode),
    sampling.FILE: (limits.SAMPLING_FILE_BYTES_MAX, sampling.decode_limits),
}
"""Files that a bundle may have under these names alone: the most bytes, and how each is read."""


def pack(files: Mapping[str, Path], put: Put, **fields: Any) -> bytes:
    """Cut the files, hand every blob to ``put`` and return the encoded manifest, itself a blob.

    ``fields`` are those of ``Manifest`` without ``files``. Raises ProtocolError. Example::

        pack({"m.onnx": path, "golden.npz": golden}, blobs.put, model="m", version="1", …)
    """
    entries = []
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            entries.append(cut_file(name, file, put))
    encoded = manifest.encode(Manifest(files=tuple(entries), **fields))
    put(encoded)
    return encoded


def chunks_of(listed: File, read: Callable[[str], bytes]) -> tuple[str, ...]:
    """The chunks of a file, in order; ``read`` fetches its index chunks."""
    if not listed.index:
        return (listed.sha256,)
    digests = parse_index(b"".join(read(name) for name in listed.index), listed.size_bytes)
    return tuple(digests)


class Pieces:
    """A packed file's bytes, read chunk by chunk."""

    def __init__(self, listed: File, read: Callable[[str], bytes]) -> None:
        """Raises ProtocolError when the file is not cut into whole chunks."""
        self.entry = listed
        self._read = read
        self.names = chunks_of(listed, read)
        if len(self.names) != max(-(-listed.size_bytes // CHUNK_BYTES), 1):
            raise ProtocolError(f"{listed.path} is not cut into chunks of {CHUNK_BYTES} bytes")

    def read(self, first: int, end: int) -> Iterator[bytes]:
        """The bytes from ``first`` up to, not including, ``end``."""
        for number in range(first // CHUNK_BYTES, -(-end // CHUNK_BYTES)):
            at = number * CHUNK_BYTES
            yield self._read(self.names[number])[max(first - at, 0) : end - at]


def names(manifest_bytes: bytes, read: Callable[[str], bytes]) -> Iterator[str]:
    """Every blob of a version in the order a device asks for them, the manifest first."""
    yield sha256_hex(manifest_bytes)
    for listed in agent_release.files_of(manifest_bytes):
        yield from listed.index
        yield from chunks_of(listed, read)


def unpack(manifest_bytes: bytes, read: Callable[[str], bytes], directory: Path) -> Manifest:
    """Write a version's files and ``manifest.json`` to a directory, each file's hash checked."""
    parsed = manifest.decode(manifest_bytes)
    (directory / "manifest.json").write_bytes(manifest_bytes)
    for listed in parsed.files:
        whole = hashlib.sha256()
        with (directory / listed.path).open("xb") as file:
            for name in chunks_of(listed, read):
                chunk = read(name)
                whole.update(chunk)
                file.write(chunk)
        if whole.hexdigest() != listed.sha256:
            raise ProtocolError(
                f"{parsed.model} {parsed.version}: the chunks of {listed.path} don't add up to it"
            )
    return parsed


def check_usable(parsed: Manifest, directory: Path) -> None:
    """Baseline, classifier and fallbacks must be of use on a device, and what the hub shows of a
    version readable; raises ProtocolError.
    """
    usable.check(parsed)
    for listed in parsed.files:
        if listed.path in _PAPERS:
            bytes_max, decode = _PAPERS[listed.path]
            if listed.size_bytes > bytes_max:
                raise ProtocolError(
                    f"{listed.path} is {listed.size_bytes} bytes, the limit is {bytes_max}"
                )
            found = decode((directory / listed.path).read_bytes())
            if isinstance(found, SamplingLimits):
                sampling.check_limits(found, parsed)
    if parsed.baseline is None:
        return
    file = parsed.file(parsed.baseline)
    if file.size_bytes > limits.BASELINE_BYTES_MAX:
        raise ProtocolError(
            f"{file.path} is {file.size_bytes} bytes, the limit for a baseline is "
            f"{limits.BASELINE_BYTES_MAX}"
        )
    try:
        fitted = baseline.decode((directory / file.path).read_bytes())
    except ProtocolError as error:
        raise ProtocolError(f"{file.path}: {error}") from None
    watching.check(parsed, fitted)


def baseline_format(parsed: Manifest, directory: Path) -> int:
    """Of the baseline in an unpacked bundle; 1 where there is none. Raises ProtocolError."""
    if parsed.baseline is None:
        return 1
    return baseline.format_of((directory / parsed.file(parsed.baseline).path).read_bytes())
