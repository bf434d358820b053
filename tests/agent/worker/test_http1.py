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
        (head("Transfer-Encoding: gzip, chunked"), 501),
        (head("Transfer-Encoding: chunked", "Content-Length: 3"), 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (head("Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (head("Transfer-Encoding: chunked") + b"3\r\nabcd\r\n", 400),
        (head("Transfer-Encoding: chunked") + b"3\nabc\n0\n\n" + b" " * 1100, 400),
        (head("Transfer-Encoding: chunked") + b"ffffffff\r\n", 413),
        (b"GET /%ff HTTP/1.1\r\n\r\n", 400),
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


def chunked(body: bytes, sizes: list[int], trailer: bytes = b"") -> bytes:
    """A request with its body in chunks of these sizes, and a last of the rest."""
    data, rest = b"", body
    for size in [*sizes, len(body)]:
        piece, rest = rest[:size], rest[size:]
        if piece:
            data += f"{len(piece):x};note=1\r\n".encode() + piece + b"\r\n"
    head = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + data + b"0\r\n" + trailer + b"\r\n"


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), max_size=5), st.data())
def test_a_body_in_chunks_is_put_together_however_it_is_cut(
    body: bytes, sizes: list[int], data: st.DataObject
) -> None:
    stream = chunked(body, sizes, b"Digest: none\r\n") + request("POST", "/next", b"x")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser, got = Parser(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        parser.feed(stream[start:end])
        while (whole := parser.next()) is not None:
            got.append((whole.path, whole.body))
    assert got == [("/c", body), ("/next", b"x")]
    assert parser.pending_bytes == 0


def test_a_chunked_body_is_bounded_in_data_and_in_the_bytes_that_carry_it() -> None:
    head_ = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunks, words in ((b"5\r\nabcde\r\n" * 500, "more than"), (b"1\r\na\r\n" * 900, "larger")):
        parser = Parser(head_ + chunks, body_bytes_max=1000)
        with pytest.raises(HttpError, match=words) as caught:
            parser.next()
        assert caught.value.status == 413


def test_a_chunked_body_can_be_taken_over_by_another_parser() -> None:
    stream = chunked(b"0123456789", [3, 4])
    for cut in range(1, len(stream)):
        first = Parser(stream[:cut])
        assert first.next() is None
        second = Parser(first.pending)
        second.feed(stream[cut:])
        taken = second.next()
        assert taken is not None
        assert taken.body == b"0123456789"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x16\x03\x01", "use http://, not https://"),
        (b"GET /v2 HTTP/1.1\n", "bare line feed"),
        (b"GET /v2 HTTP/1.1\r\nHost: x\n", "bare line feed"),
        (b"PRI * HTTP/2.0\r\n", "the request line is not HTTP/1.1"),
        (b"hello there\r\n", "the request line is not HTTP/1.1"),
        (b"\x00", "the request line is not HTTP/1.1"),
    ],
)
def test_what_can_not_become_a_request_is_refused_with_its_first_bytes(
    data: bytes, words: str
) -> None:
    with pytest.raises(HttpError, match=words) as caught:
        parse(data)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/v2/models/a+b/infer",
        "/v2/models/a%2Bb/infer",
        "http://127.0.0.1:8080/v2/models/a+b/infer?x=1",
        "HTTP://slot/v2/%6dodels/a+b/infer",
    ],
)
def test_a_path_is_the_same_in_every_form_that_clients_send(target: str) -> None:
    got = parse(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    assert got is not None
    assert got.path == "/v2/models/a+b/infer"


def test_an_absolute_target_without_a_path_is_the_root() -> None:
    got = parse(b"GET http://slot HTTP/1.1\r\n\r\n")
    assert got is not None
    assert got.path == "/"
