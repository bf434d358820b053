"""The HTTP/1.1 parser: whole requests out of any pieces, and no way to smuggle one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.worker.http1 import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    HttpError,
    Parser,
    Request,
    Response,
    encode,
)
from support.workers import request


def parse(data: bytes) -> Request | None:
    return Parser(data).next()


def head(*lines: str) -> bytes:
    return "\r\n".join(["GET / HTTP/1.1", *lines]).encode() + b"\r\n\r\n"


bodies = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@given(bodies, st.data())
def test_pipelined_requests_come_out_whole_however_they_are_cut(
    sent: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(request("POST", f"/{index}", body) for index, body in enumerate(sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser, got = Parser(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parser.feed(stream[start:end])
        while (whole := parser.next()) is not None:
            got.append((whole.path, whole.body))
    assert got == [(f"/{index}", body) for index, body in enumerate(sent)]
    assert parser.pending_bytes == 0


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_refusal_or_not_enough(data: bytes) -> None:
    with contextlib.suppress(HttpError):
        parse(data + b"\r\n\r\n")


def test_unanswered_bytes_can_be_taken_over_by_another_parser() -> None:
    stream = request("POST", "/a", b"12345")
    for cut in range(1, len(stream)):
        first = Parser(stream[:cut])
        assert first.next() is None
        second = Parser(first.pending)
        second.feed(stream[cut:])
        taken = second.next()
        assert taken is not None
        assert taken.body == b"12345"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (head("Host : x"), 400),
        (head(" folded: x"), 400),
        (head("Content-Length: -1"), 400),
        (head("Content-Length: +1"), 400),
        (head("Content-Length: 1, 1"), 400),
        (head("Content-Length: 1", "Content-Length: 1"), 400),
        (head("Host: a", "Host: b"), 400),
        (head("a: b\nX: y"), 400),
        (head("Content-Length: 99999999999"), 413),
        (head("Transfer-Encoding: chunked"), 411),
        (head("Transfer-Encoding: chunked", "Content-Length: 3"), 411),
        (head("Expect: miracles"), 417),
        (head(*[f"h{number}: x" for number in range(HEADERS_MAX + 1)]), 431),
        (b"GET /" + b"a" * HEAD_BYTES_MAX, 431),
    ],
)
def test_what_is_not_a_plain_request_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        parse(data)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close, upgrade", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
    ],
)
def test_connections_stay_open_as_the_client_asks(
    version: str, connection: str | None, keep: bool
) -> None:
    line = f"Connection: {connection}\r\n" if connection else ""
    got = parse(f"GET / HTTP/{version}\r\n{line}\r\n".encode())
    assert got is not None
    assert got.keep_alive is keep


def test_a_client_that_waits_for_leave_gets_it_once() -> None:
    parser = Parser(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert parser.next() is None
    assert parser.wants_continue()
    assert not parser.wants_continue()
    parser.feed(b"ok")
    got = parser.next()
    assert got is not None
    assert got.body == b"ok"
    assert not parser.continued


def test_the_query_is_not_part_of_the_path_and_empty_lines_are_skipped() -> None:
    got = parse(b"\r\n\r\nGET /v2?x=1 HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n")
    assert got is not None
    assert got.path == "/v2"
    assert got.headers == {"a": "1, 2"}


def test_a_response_says_its_length_and_whether_the_connection_ends() -> None:
    answer = Response(200, b"{}", (("X", "y"),))
    assert encode(answer, keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX: y\r\n\r\n{}"
    )
    assert b"\r\nConnection: close\r\n\r\n{}" in encode(answer, keep_alive=False)
