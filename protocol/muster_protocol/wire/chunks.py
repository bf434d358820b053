"""How a bundle's bytes are cut, named and put together again.

A file is a sequence of chunks of at most ``CHUNK_BYTES``, each named by its SHA-256. A file of one
chunk is named by its own hash and needs no index. A longer one has an index: the concatenated
digests, itself cut into chunks, so that a manifest stays small at any model size.
"""

import hashlib
from collections.abc import Iterable, Iterator

from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.limits import BUNDLE_BYTES_MAX, CHUNK_BYTES, CHUNK_DIGEST_BYTES


def sha256_hex(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal: the name of a chunk, a file or a manifest."""
    return hashlib.sha256(data).hexdigest()


def cut(data: bytes | memoryview) -> Iterator[memoryview]:
    """Cut bytes into chunks; an empty file is one empty chunk."""
    view = memoryview(data)
    for start in range(0, max(len(view), 1), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def index_of(digests: Iterable[str]) -> bytes:
    """The chunk index of a file: its chunks' digests in order, 32 bytes each."""
    return b"".join(bytes.fromhex(digest) for digest in digests)


def parse_index(index: bytes, size_bytes: int) -> tuple[str, ...]:
    """Digests named by the index of a file of ``size_bytes``; raises ProtocolError."""
    if size_bytes > BUNDLE_BYTES_MAX:
        raise LimitError(f"a file of {size_bytes} bytes is over the limit of {BUNDLE_BYTES_MAX}")
    count, rest = divmod(len(index), CHUNK_DIGEST_BYTES)
    least = -(-size_bytes // CHUNK_BYTES)
    if rest or count < max(least, 1):
        raise ProtocolError(
            f"a chunk index of {len(index)} bytes can't describe a file of {size_bytes} bytes"
        )
    return tuple(
        index[start : start + CHUNK_DIGEST_BYTES].hex()
        for start in range(0, len(index), CHUNK_DIGEST_BYTES)
    )
