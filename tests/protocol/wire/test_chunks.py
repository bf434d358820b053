"""Chunks: cutting loses nothing, and an index is what its file needs or is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire import chunks
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.limits import BUNDLE_BYTES_MAX, CHUNK_BYTES

sizes = st.integers(0, 4 * CHUNK_BYTES) | st.sampled_from(
    [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES]
)


@given(sizes)
def test_the_chunks_of_a_file_join_to_the_file(size_bytes):
    data = hashlib.shake_128(str(size_bytes).encode()).digest(size_bytes)
    cut = list(chunks.cut(data))
    assert b"".join(cut) == data
    assert all(len(chunk) == CHUNK_BYTES for chunk in cut[:-1])
    assert len(cut[-1]) <= CHUNK_BYTES


@given(sizes)
def test_an_index_gives_back_the_digests_it_was_made_of(size_bytes):
    digests = tuple(chunks.sha256_hex(chunk) for chunk in chunks.cut(bytes(size_bytes)))
    assert chunks.parse_index(chunks.index_of(digests), size_bytes) == digests


def test_an_empty_file_is_one_empty_chunk():
    assert [bytes(chunk) for chunk in chunks.cut(b"")] == [b""]


@pytest.mark.parametrize(
    ("index_bytes", "size_bytes"),
    [(0, 0), (0, 1), (31, 1), (33, 1), (32, CHUNK_BYTES + 1), (64, 3 * CHUNK_BYTES)],
)
def test_an_index_that_cannot_describe_its_file_is_refused(index_bytes, size_bytes):
    with pytest.raises(ProtocolError, match=f"chunk index of {index_bytes} bytes"):
        chunks.parse_index(bytes(index_bytes), size_bytes)


def test_an_index_of_a_file_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(LimitError, match="over the limit"):
        chunks.parse_index(b"", BUNDLE_BYTES_MAX + 1)


def test_a_chunk_is_named_by_the_sha256_of_its_bytes():
    assert chunks.sha256_hex(memoryview(b"abc")) == hashlib.sha256(b"abc").hexdigest()
