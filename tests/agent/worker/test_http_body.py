"""Compressed bodies: both codings, both ways, bounded, and refused in words."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.worker.http1 import HttpError, Request, Response, compressed, decoded
from muster_agent.worker.http_body import coding_for

BYTES_MAX = 4096


def bare(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def sent(body: bytes, coding: str) -> Request:
    return Request("POST", "/", {"content-encoding": coding}, body, keep_alive=True)


@given(st.binary(max_size=BYTES_MAX))
def test_a_compressed_body_is_read_in_each_coding_that_clients_use(data: bytes) -> None:
    for coding, body in (
        ("gzip", gzip.compress(data, mtime=0)),
        ("deflate", zlib.compress(data)),
        ("Deflate", bare(data)),
        ("identity", data),
        ("gzip, deflate", zlib.compress(gzip.compress(data, mtime=0))),
    ):
        assert decoded(sent(body, coding), BYTES_MAX * 2).body == data


@pytest.mark.parametrize(
    ("body", "coding", "status", "words"),
    [
        (gzip.compress(bytes(10_000_000), mtime=0), "gzip", 413, "more than 4096 bytes"),
        (zlib.compress(bytes(BYTES_MAX + 1)), "deflate", 413, "more than 4096 bytes"),
        (b"plain", "gzip", 400, "not gzip, as its header says"),
        (gzip.compress(b"x" * 99, mtime=0)[:-9], "gzip", 400, "not one whole stream"),
        (gzip.compress(b"x", mtime=0) + b"more", "gzip", 400, "not one whole stream"),
        (b"x", "br", 415, "send it plain, as gzip or as deflate"),
    ],
)
def test_a_body_that_is_not_what_it_says_or_too_large_is_refused(
    body: bytes, coding: str, status: int, words: str
) -> None:
    with pytest.raises(HttpError, match=words) as caught:
        decoded(sent(body, coding), BYTES_MAX)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("gzip, deflate", None),
        ("*", None),
        ("", None),
        ("nonsense;;", None),
    ],
)
def test_who_names_one_coding_alone_is_answered_in_it(accepted: str, coding: str | None) -> None:
    assert coding_for(accepted) == coding


def test_an_answer_is_compressed_where_that_is_wanted_and_worth_it() -> None:
    long, short = Response(200, b"1234" * 1000), Response(200, b"{}")
    packed = compressed(long, "gzip")
    assert gzip.decompress(packed.body) == long.body
    assert ("Content-Encoding", "gzip") in packed.headers
    assert zlib.decompress(compressed(long, "deflate").body) == long.body
    assert compressed(long, None) == compressed(long, "br") == long
    assert compressed(short, "gzip") == short
