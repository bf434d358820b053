"""A file as a manifest lists it: size, hash and chunk index, found while it is cut. Pure."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from muster_protocol.wire.chunks import cut, index_of, sha256_hex
from muster_protocol.wire.limits import CHUNK_BYTES
from muster_protocol.wire.manifest import File

Put = Callable[[bytes | memoryview], object]
"""Takes each chunk and index chunk, once."""


def cut_file(name: str, file: BinaryIO, put: Put) -> File:
    """Cut a file of any size, holding one chunk at a time, and return its manifest entry."""
    whole = hashlib.sha256()
    digests: list[str] = []
    size_bytes = 0
    while True:
        chunk = file.read(CHUNK_BYTES)
        if not chunk and digests:
            break
        whole.update(chunk)
        size_bytes += len(chunk)
        digests.append(sha256_hex(chunk))
        put(chunk)
        if len(chunk) < CHUNK_BYTES:
            break
    index: tuple[str, ...] = ()
    if len(digests) > 1:
        pieces = list(cut(index_of(digests)))
        for piece in pieces:
            put(piece)
        index = tuple(sha256_hex(piece) for piece in pieces)
    return File(name, size_bytes, whole.hexdigest(), index)
