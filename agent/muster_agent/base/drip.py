"""Reading an HTTP answer that may never end: bounded in bytes, and in time by its least rate.

An answer that drips in keeps a client waiting for ever although no single read times out: a slow
retrieval attack, or a link too poor to be worth waiting for.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from muster_protocol.wire import limits

GRACE_SECONDS = 10.0
BYTES_PER_SECOND_MIN = 1024
PIECE_BYTES = 64 * limits.KIB


class Readable(Protocol):
    """An HTTP answer's body, as ``http.client`` offers it."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes, from one read of the socket; empty at the end."""
        ...


class TooSlow(ValueError):
    """It drips in more slowly than its least rate."""


def read(
    answer: Readable, bytes_max: int, monotonic: Callable[[], float] = time.monotonic
) -> bytes:
    """The answer, cut after ``bytes_max`` + 1 bytes. Raises TooSlow, and what reading raises."""
    return part(answer, bytes_max + 1, monotonic)


def part(answer: Readable, size: int, monotonic: Callable[[], float] = time.monotonic) -> bytes:
    """The next ``size`` bytes, fewer at its end. Raises TooSlow, and what reading raises."""
    data = bytearray()
    for piece in pieces(answer, size, monotonic):
        data += piece
    return bytes(data)


def pieces(
    answer: Readable,
    size: int,
    monotonic: Callable[[], float] = time.monotonic,
    bytes_per_second_min: int = BYTES_PER_SECOND_MIN,
) -> Iterator[bytes]:
    """The next ``size`` bytes as they come, fewer at its end. Raises TooSlow, and what reading
    raises: what came before is the caller's."""
    begun = monotonic()
    done = 0
    while done < size:
        piece = answer.read1(min(PIECE_BYTES, size - done))
        if not piece:
            break
        done += len(piece)
        yield piece
        seconds = monotonic() - begun
        if seconds > GRACE_SECONDS + done / bytes_per_second_min:
            raise TooSlow(
                f"{done} bytes in {seconds:.0f} s, slower than {bytes_per_second_min} bytes/s "
                "(a slow retrieval attack, or a bad link)"
            )
