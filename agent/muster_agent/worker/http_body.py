"""Bodies of HTTP messages as they travel: in chunks, and compressed. Pure.

Sources of the rules: RFC 9112 §7.1 (chunked), RFC 9110 §8.4 and §12.5.3 (codings).
"""

import gzip
import re
import zlib
from typing import Literal

Coding = Literal["gzip", "deflate"]
CHUNK_LINE_BYTES_MAX = 1024
COMPRESSED_BYTES_MIN = 1024
"""A shorter answer would hardly shrink."""
LEVEL = 1
"""Of compression: the time of a device is dearer than a few bytes on a local socket."""
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_AUTO = 47
"""For zlib: a header of gzip or of zlib, whichever comes."""
_ACCEPTED = re.compile(r"\s*([a-z*-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")


class BodyError(Exception):
    """A body that can't be read; ``status`` says in HTTP why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Chunks:
    """Finds the end of a chunked body in a buffer that grows, and its data."""

    def __init__(self, start: int, bytes_max: int) -> None:
        """``start`` is where the body begins in the buffer."""
        self._at = start
        self._bytes_max = bytes_max
        self._spans: list[tuple[int, int]] = []
        self._size = 0
        self._in_trailer = False

    def advance(self, buffer: bytearray) -> int | None:
        """Where the body ends, or None until more has come; raises BodyError."""
        while not self._in_trailer:
            if not self._take_chunk(buffer):
                return None
        while (line := self._line(buffer)) is not None:
            self._at += len(line) + 2
            if not line:
                return self._at
        return None

    def _take_chunk(self, buffer: bytearray) -> bool:
        """Note the next chunk; False until it is there."""
        line = self._line(buffer)
        if line is None:
            return False
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BodyError(400, "a chunk of the body has no size")
        size = int(match[1], 16)
        first = self._at + len(line) + 2
        if size == 0:
            self._at, self._in_trailer = first, True
            return True
        if self._size + size > self._bytes_max:
            raise BodyError(413, f"a body of more than {self._bytes_max} bytes")
        end = first + size
        if len(buffer) < end + 2:
            return False
        if buffer[end : end + 2] != b"\r\n":
            raise BodyError(400, "a chunk of the body is longer than it says")
        self._spans.append((first, end))
        self._size += size
        self._at = end + 2
        if self._at > 2 * self._bytes_max + CHUNK_LINE_BYTES_MAX:
            raise BodyError(413, "a body in too many chunks: send larger ones")
        return True

    def body(self, buffer: bytearray) -> bytes:
        """The data of all chunks."""
        view = memoryview(buffer)
        try:
            return b"".join(view[first:end] for first, end in self._spans)
        finally:
            view.release()

    def _line(self, buffer: bytearray) -> bytes | None:
        """The line that begins here, without its end."""
        end = buffer.find(b"\r\n", self._at, self._at + CHUNK_LINE_BYTES_MAX + 2)
        if end < 0:
            if len(buffer) > self._at + CHUNK_LINE_BYTES_MAX:
                raise BodyError(400, "a chunk of the body has no size")
            return None
        return bytes(buffer[self._at : end])


def inflated(body: bytes, codings: str, bytes_max: int) -> bytes:
    """A body without its ``Content-Encoding``; raises BodyError, also for more than the limit."""
    for coding in reversed([each.strip().lower() for each in codings.split(",")]):
        match coding:
            case "identity" | "":
                continue
            case "gzip" | "x-gzip" | "deflate":
                body = _inflated(body, coding, bytes_max)
            case _:
                raise BodyError(
                    415, f"a body encoded as {coding[:40]!r}: send it plain, as gzip or as deflate"
                )
    return body


def _inflated(body: bytes, coding: str, bytes_max: int) -> bytes:
    # Some clients send "deflate" without the header that the standard asks for.
    bare = coding == "deflate" and not _has_zlib_header(body)
    stream = zlib.decompressobj(-zlib.MAX_WBITS if bare else _AUTO)
    try:
        made = stream.decompress(body, bytes_max + 1)
    except zlib.error:
        raise BodyError(400, f"the body is not {coding}, as its header says") from None
    if len(made) > bytes_max:
        raise BodyError(413, f"a body of more than {bytes_max} bytes")
    if not stream.eof or stream.unused_data:
        raise BodyError(400, f"the body is not one whole stream of {coding}")
    return made


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def coding_for(accepted: str) -> Coding | None:
    """The coding to answer with, by ``Accept-Encoding``; None for none.

    Who names one alone wants it; who lists all that it can read, as most libraries do unasked, is
    as well served plainly, and faster.
    """
    wanted = []
    for each in accepted.lower().split(","):
        match = _ACCEPTED.fullmatch(each)
        if match is not None and float(match[2] or 1) > 0:
            wanted.append(match[1])
    match wanted:
        case ["gzip"] | ["x-gzip"]:
            return "gzip"
        case ["deflate"]:
            return "deflate"
        case _:
            return None


def deflated(body: bytes, coding: Coding) -> bytes:
    """A body in a coding."""
    return gzip.compress(body, LEVEL, mtime=0) if coding == "gzip" else zlib.compress(body, LEVEL)
