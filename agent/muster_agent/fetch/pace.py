"""How fast bytes come, and what follows from it: how much to ask for at once. Pure.

The rate is measured while chunks come, so that neither idle time nor the way to the source and back
counts as slowness. On a slow link one chunk is asked for at a time: what stands in a long queue at
the broker delays acknowledgements and directives, and is lost with the connection.
"""

import math

from muster_protocol.wire.limits import CHUNK_BYTES, KIB

AHEAD_SECONDS = 8.0
"""What may stand in the queue of a link, as time: no more is asked for at once."""
MEMORY_SECONDS = 8.0
"""How long a measurement counts; the next ones take its place gradually."""
RISE_SHARE = 0.5
"""A measurement takes in the way to the source and back too, so that the higher one is nearer."""
SAMPLE_BYTES = 32 * KIB
"""Fewer tell more of the way there and back than of the rate."""
_SECONDS_MIN = 1e-4


class Pace:
    """The measured rate of what is fetched. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.bytes_per_second: float | None = None
        """None: not measured yet."""
        self._since: float | None = None
        self._bytes = 0

    @property
    def slow(self) -> bool:
        """Whether a chunk takes longer than ``AHEAD_SECONDS``."""
        rate = self.bytes_per_second
        return rate is not None and rate * AHEAD_SECONDS < CHUNK_BYTES

    @property
    def ahead_bytes(self) -> float:
        """How much to ask for at once: a chunk, or what the link carries in ``AHEAD_SECONDS``."""
        return max(CHUNK_BYTES, (self.bytes_per_second or 0.0) * AHEAD_SECONDS)

    def begin(self, now: float) -> None:
        """Something is asked for from now on."""
        if self._since is None:
            self._since, self._bytes = now, 0

    def came(self, size_bytes: int, now: float) -> None:
        """So many more bytes have come."""
        if self._since is None:
            return
        self._bytes += size_bytes
        if self._bytes < SAMPLE_BYTES:
            return
        seconds = max(now - self._since, _SECONDS_MIN)
        measured = self._bytes / seconds
        if self.bytes_per_second is None:
            self.bytes_per_second = measured
        else:
            share = 1 - math.exp(-seconds / MEMORY_SECONDS)
            if measured > self.bytes_per_second:
                share = max(share, RISE_SHARE)
            self.bytes_per_second += share * (measured - self.bytes_per_second)
        self._since, self._bytes = now, 0

    def whole(self, now: float) -> None:
        """A chunk is complete: what comes of the next one is counted anew."""
        if self._since is not None:
            self._since, self._bytes = now, 0

    def rest(self) -> None:
        """Nothing is asked for, or nothing can come."""
        self._since = None
