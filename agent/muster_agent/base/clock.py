"""The clock as the agent sees it: three readings that must not be confused.

Decisions use ``monotonic`` seconds handed to them as ``now``; ``wall`` only labels things and may
be wrong by decades; ``quality`` says how far to believe it. Pure: who reads a clock is given it.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from muster_protocol.wire.messages import ClockQuality, Stamp


class Clock(Protocol):
    """Time as the agent's decisions see it; tests and the simulator bring their own."""

    def monotonic(self) -> float:
        """Seconds that only move forward, comparable within one boot."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 as the device believes them."""
        ...

    def boot_id(self) -> bytes:
        """16 bytes, new at each boot."""
        ...

    def quality(self) -> ClockQuality:
        """How far the wall clock can be believed."""
        ...


def stamp(clock: Clock) -> Stamp:
    """When something happened, in the form that travels to the hub."""
    return Stamp(clock.boot_id(), clock.monotonic(), clock.wall(), clock.quality())


def local_time(clock: Clock, zone: tzinfo | None) -> datetime:
    """What a clock on the wall shows; ``zone`` None is the system's."""
    # Not fromtimestamp: a clock that believes in an impossible year must not raise.
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=clock.wall())
    return now.astimezone(zone)
