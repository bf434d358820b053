"""HTTP/1.1 as pure functions over bytes: what a connection sent, and what to answer.

The parser keeps a request's raw bytes until it is whole, so that a connection can be handed to
another process at any moment before that. What can't become a request is refused with its first
line, not when its client has waited long enough. Source of the rules: RFC 9112. Pure.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from muster_agent.worker.http_body import (
    COMPRESSED_BYTES_MIN,
    BodyError,
    Chunks,
    coding_for,
    deflated,
    inflated,
)

HEAD_BYTES_MAX = 16 * 1024
HEADERS_MAX = 64
BODY_BYTES_MAX = 16 * 1024 * 1024

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([^\s\x00-\x20\x7f]{1,4096}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_DIGITS = re.compile(r"[0-9]{1,19}")
_ABSOLUTE = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CR = 0x0D
_NO_REQUEST_LINE = "the request line is not HTTP/1.1"

_REASONS = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpError(Exception):
    """Bytes that are no acceptable request: answer with ``status``, then close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """One HTTP request, whole."""

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    keep_alive: bool


class Response(NamedTuple):
    """One HTTP answer before it is serialised."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


class _Head(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    end: int
    """Where the body starts."""
    size: int
    """Bytes of the body; 0 where it comes in chunks."""
    chunked: bool


class Parser:
    """Bytes of one connection in; whole requests out."""

    def __init__(self, data: bytes = b"", *, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._buffer = bytearray(data)
        self._head: _Head | None = None
        self._chunks: Chunks | None = None
        self._searched = 0
        self._body_bytes_max = body_bytes_max
        self.continued = False
        """Whether the client of the pending request was told to continue."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the connection; ``next`` takes whole requests out."""
        self._buffer += data

    @property
    def announced_bytes(self) -> int:
        """Of the pending request's body; 0 until its head is whole."""
        return 0 if self._head is None else self._head.size

    def clear(self) -> None:
        """Forget what came."""
        self._buffer = bytearray()
        self._forget()

    @property
    def pending(self) -> bytes:
        """Raw bytes of requests that were not returned yet."""
        return bytes(self._buffer)

    @property
    def pending_bytes(self) -> int:
        """Bytes of a request that has not come whole."""
        return len(self._buffer)

    def wants_continue(self) -> bool:
        """True once per request whose client waits for leave to send its body."""
        head = self._head
        if head is None or self.continued or len(self._buffer) > head.end:
            return False
        self.continued = head.headers.get("expect", "").lower() == "100-continue"
        return self.continued

    def next(self) -> Request | None:
        """The next whole request, None until more bytes come; raises HttpError."""
        if self._head is None:
            self._head = self._parse_head()
        head = self._head
        if head is None or len(self._buffer) < head.end + head.size:
            return None
        end: int | None = head.end + head.size
        if head.chunked:
            self._chunks = self._chunks or Chunks(head.end, self._body_bytes_max)
            try:
                end = self._chunks.advance(self._buffer)
            except BodyError as error:
                raise HttpError(error.status, str(error)) from None
            if end is None:
                return None
            body = self._chunks.body(self._buffer)
        else:
            body = bytes(memoryview(self._buffer)[head.end : end])
        del self._buffer[:end]
        self._forget()
        return Request(head.method, head.path, head.headers, body, head.keep_alive)

    def _forget(self) -> None:
        self._head, self._chunks, self._searched, self.continued = None, None, 0, False

    def _parse_head(self) -> _Head | None:
        while self._buffer.startswith((b"\r\n", b"\n")):  # RFC 9112 §2.2: tolerate empty lines
            del self._buffer[: self._buffer.index(b"\n") + 1]
        end = self._buffer.find(b"\r\n\r\n", max(self._searched - 3, 0))
        if end > HEAD_BYTES_MAX or (end < 0 and len(self._buffer) > HEAD_BYTES_MAX):
            raise HttpError(431, f"a request head may have {HEAD_BYTES_MAX} bytes")
        if end < 0:
            self._check_beginning()
            self._searched = len(self._buffer)
            return None
        return parse_head(bytes(self._buffer[:end]), end + 4, self._body_bytes_max)

    def _check_beginning(self) -> None:
        """Refuse at once what no further byte can make a request; raises HttpError."""
        if self._buffer and not self._buffer[:1].isupper():
            raise HttpError(400, _not_http(bytes(self._buffer[:3])))
        first = self._buffer.find(b"\n", self._searched)
        if first < 0:
            return
        if first == 0 or self._buffer[first - 1] != _CR:
            raise HttpError(400, "a line ends with a bare line feed: HTTP ends lines with CR LF")
        line = bytes(self._buffer[: self._buffer.index(b"\r\n")])
        if _REQUEST_LINE.fullmatch(line) is None:
            raise HttpError(400, _NO_REQUEST_LINE)
        bare = _BARE_LF.search(self._buffer)
        if bare is not None:
            raise HttpError(400, "a line ends with a bare line feed: HTTP ends lines with CR LF")


def _not_http(start: bytes) -> str:
    if start[:2] == b"\x16\x03":
        return "TLS is not spoken here: use http://, not https://"
    return _NO_REQUEST_LINE


def parse_head(head: bytes, end: int, body_bytes_max: int) -> _Head:
    """A request line and headers, without the empty line; raises HttpError."""
    first, *lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise HttpError(400, _not_http(first[:3]))
    if len(lines) > HEADERS_MAX:
        raise HttpError(431, f"a request may have {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        pair = _HEADER.fullmatch(line)
        if pair is None:
            raise HttpError(400, "a header line is malformed")
        name, value = pair[1].decode("ascii").lower(), pair[2].decode("latin-1")
        if name in headers and name in {"content-length", "transfer-encoding", "host"}:
            raise HttpError(400, f"the header {name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    chunked = _is_chunked(headers, match[3])
    size = 0 if chunked else _body_size(headers, body_bytes_max)
    expect = headers.get("expect", "100-continue").lower()
    if expect != "100-continue":
        raise HttpError(417, f"can't meet the expectation {expect!r}")
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    keep = "keep-alive" in options if match[3] == b"0" else "close" not in options
    path = _path(match[2].decode("latin-1"))
    return _Head(match[1].decode("ascii"), path, headers, keep, end, size, chunked)


def _path(target: str) -> str:
    """The path that a request's target names, in whichever form it does."""
    if not target.startswith("/"):
        whole = _ABSOLUTE.match(target)
        target = target if whole is None else target[whole.end() :] or "/"
    path = target.partition("?")[0]
    if "%" not in path:
        return path
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not text in UTF-8") from None


def _is_chunked(headers: dict[str, str], minor: bytes) -> bool:
    coding = headers.get("transfer-encoding")
    if coding is None:
        return False
    if "content-length" in headers or minor == b"0":
        # Whoever forwarded it may have understood another request than this one.
        raise HttpError(400, "a body has either a length or chunks, and HTTP/1.0 knows no chunks")
    if coding.lower() != "chunked":
        raise HttpError(501, f"the transfer encoding {coding[:40]!r} is not known: use chunked")
    return True


def _body_size(headers: dict[str, str], body_bytes_max: int) -> int:
    text = headers.get("content-length", "0")
    if _DIGITS.fullmatch(text) is None:
        raise HttpError(400, "Content-Length is not a number")
    size = int(text)
    if size > body_bytes_max:
        raise HttpError(413, f"a body of {size} bytes, the limit is {body_bytes_max}")
    return size


def encode(response: Response, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """A response's bytes, for a HEAD request without the body.

    There is no Date: a device may not know it (RFC 9110 §6.6.1).
    """
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Error')}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
    ]
    lines += [f"{name}: {value}" for name, value in response.headers]
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + response.body


def decoded(request: Request, body_bytes_max: int) -> Request:
    """The request with its body as it was before it was compressed; raises HttpError."""
    codings = request.headers.get("content-encoding")
    if codings is None:
        return request
    try:
        return request._replace(body=inflated(request.body, codings, body_bytes_max))
    except BodyError as error:
        raise HttpError(error.status, str(error)) from None


def compressed(response: Response, accepted: str | None) -> Response:
    """The response as a client with this ``Accept-Encoding`` wants it."""
    if accepted is None or len(response.body) < COMPRESSED_BYTES_MIN:
        return response
    coding = coding_for(accepted)
    if coding is None:
        return response
    headers = (*response.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
    return response._replace(body=deflated(response.body, coding), headers=headers)
