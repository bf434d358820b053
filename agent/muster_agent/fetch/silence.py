"""When the broker's silence means that it lacks what it is asked for. Pure.

A slow link is no silence: bytes tell. Nothing is judged before the broker has taken the
subscription; while bytes come it isn't silent, unless far more have come than what was asked for;
and once a chunk is on its way only the end of the connection can lose it, so that a link which
stands still for a while is waited for.
"""

import random
from typing import NamedTuple

from muster_protocol.wire.limits import KIB

SLOW_PATIENCE = 8.0
"""How much longer than on a fast link silence is waited out on a slow one: half a minute with the
usual 4 s, so that one which stands still for 20 s as a chunk begins isn't asked for it again."""
UNDER_WAY_BYTES = 4 * KIB
"""From so many bytes on a chunk is on its way."""
STALL_SECONDS = 60.0
"""How long a link may stand still in the middle of a chunk: a dead one is noticed by then."""
OVERDUE_FACTOR = 2
OTHER_BYTES = 256 * KIB
"""What else may come before a chunk: it is overdue after ``OVERDUE_FACTOR`` times what was asked
for and this."""
_JITTER = 0.25


class Heard(NamedTuple):
    """Bytes that have come so far: over this connection to the broker, and by HTTP."""

    broker_bytes: int
    http_bytes: int


class Silence:
    """Times are monotonic seconds."""

    def __init__(self, seconds: float, rng: random.Random) -> None:
        """``seconds`` without a byte are silence, on a link that isn't slow."""
        self.times = 0
        """Silences in a row."""
        self.moved_bytes = 0
        """That came from the broker since a chunk last did, or something was asked for."""
        self._under_way_bytes = 0
        """Of these, what came after the last whole message."""
        self._seconds = seconds
        self._rng = rng
        self._jitter = 1.0
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Something was asked for, or asked for again."""
        self._since = now
        self.moved_bytes = self._under_way_bytes = 0
        self._jitter = 1 + self._rng.uniform(-_JITTER, _JITTER)

    def progress(self, now: float) -> None:
        """A chunk has come."""
        self.times = 0
        self.begin(now)

    def moved(self, size_bytes: int, now: float) -> None:
        """Bytes have come, of whatever."""
        self._since = now
        self.moved_bytes += size_bytes
        self._under_way_bytes += size_bytes

    def useless(self) -> None:
        """A message came whole and is no good: what has come so far was it, and nothing else is
        under way."""
        self._under_way_bytes = 0

    def confirmed(self, now: float) -> None:
        """The broker has taken a subscription."""
        self._since = now

    def until(self, asked_bytes: int, *, slow: bool) -> float:
        """When it is silent, while ``asked_bytes`` are asked for."""
        if self.moved_bytes > OVERDUE_FACTOR * asked_bytes + OTHER_BYTES:
            return self._since  # Enough has come, and none of it was this.
        if self._under_way_bytes >= UNDER_WAY_BYTES:
            return self._since + STALL_SECONDS * self._jitter
        return self._since + self._seconds * self._jitter * (SLOW_PATIENCE if slow else 1.0)
