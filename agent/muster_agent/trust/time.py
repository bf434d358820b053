"""What time it is, for judging signatures, on a device whose clock may be decades wrong.

The floor is the time this agent was built and the issue times that release and hub keys have
signed; ``expires`` is never a time. A synchronised system clock counts while it is synchronised
and is never kept: one spoofed 2100 would otherwise live for ever. Pure.
"""

from dataclasses import dataclass
from typing import Literal

from muster_protocol.wire.messages import ClockQuality

BUILD_TIME = 1_795_392_000
"""2026-11-23T00:00:00Z, moved forward with each release."""
DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the system's clock says, and how far to believe it."""

    wall_seconds: float
    quality: ClockQuality


@dataclass(frozen=True, slots=True)
class Instant:
    """Trusted time. With quality ``floor`` the true time is this or any later one."""

    seconds: int
    quality: Literal["floor", "synchronised"]

    def not_yet(self, start: int) -> bool:
        """Whether ``start`` is certainly in the future; a floor can never tell."""
        return self.quality == "synchronised" and self.seconds < start

    def past(self, end: int) -> bool:
        """Whether ``end`` is certainly behind us."""
        return self.seconds >= end


def trusted_now(reading: ClockReading, issued_floor: int = 0) -> Instant:
    """The best provable time: the synchronised clock, but never before what was signed."""
    floor = max(BUILD_TIME, issued_floor)
    if reading.quality == "synchronised" and reading.wall_seconds >= floor:
        return Instant(int(reading.wall_seconds), "synchronised")
    return Instant(floor, "floor")
