"""How much may be fetched, and when: bytes a day, a second and a bundle, and hours of the day.

Pure. A budget counts bytes that arrived; what is on its way when it runs out still counts, so it
may be overshot by one window of chunks, never by a range (``within``). A device whose clock isn't
set keeps no hours: it could otherwise never fetch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo

from muster_agent.base.clock import Clock, local_time
from muster_protocol.wire import maintenance
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.maintenance import MaintenanceWindow

LOOK_SECONDS = 60.0
"""How often an exhausted day, or closed hours, are looked at again."""
AHEAD_SECONDS = 4.0
"""How far ahead of a rate limit bytes may be asked for at once."""


@dataclass(frozen=True)
class Allowance:
    """0 and empty mean without bound."""

    bytes_per_day: int = 0
    bytes_per_second: int = 0
    bytes_per_bundle: int = 0
    hours: tuple[MaintenanceWindow, ...] = ()
    """In which models may be fetched, by the device's wall clock."""


@dataclass(frozen=True)
class FetchPause:
    """Why nothing may be fetched now, and until when."""

    until: float
    """Monotonic; look again then."""
    reason: str


class Meter:
    """Times are monotonic seconds."""

    def __init__(
        self,
        allowance: Allowance,
        *,
        clock: Clock,
        zone: tzinfo | None,
        spent: Callable[[int, int], int],
    ) -> None:
        """``spent(day, more)`` adds bytes to a day's durable count and returns it."""
        self.allowance = allowance
        self._clock = clock
        self._zone = zone
        self._spent = spent
        self._free_at = float("-inf")

    def spend(self, size: int, now: float) -> None:
        """Bytes that have come."""
        if self.allowance.bytes_per_second:
            started = max(self._free_at, now)
            self._free_at = started + size / self.allowance.bytes_per_second
        if self.allowance.bytes_per_day:
            self._spent(self._local().toordinal(), size)

    def within(self, size: int) -> int:
        """How many of ``size`` bytes may be asked for at once."""
        allowed = self.allowance
        if allowed.bytes_per_day:
            spent = self._spent(self._local().toordinal(), 0)
            size = min(size, max(allowed.bytes_per_day - spent, 0))
        if allowed.bytes_per_second:
            size = min(size, int(AHEAD_SECONDS * allowed.bytes_per_second))
        return size

    def pause(self, now: float) -> FetchPause | None:
        """Why nothing more may be asked for now, or None."""
        allowed = self.allowance
        if self._closed():
            hours = ", ".join(f"{window.start}-{window.end}" for window in allowed.hours)
            return FetchPause(now + LOOK_SECONDS, f"the hours for fetching: {hours}")
        if allowed.bytes_per_day:
            spent = self._spent(self._local().toordinal(), 0)
            if spent >= allowed.bytes_per_day:
                size = f"{allowed.bytes_per_day / MIB:g} MiB"
                return FetchPause(now + LOOK_SECONDS, f"tomorrow: today's {size} are fetched")
        if now < self._free_at:
            return FetchPause(self._free_at, "the rate limit")
        return None

    def _closed(self) -> bool:
        hours = self.allowance.hours
        if not hours or self._clock.quality() != "synchronised":
            return False
        return not maintenance.is_open(hours, self._local())

    def _local(self) -> datetime:
        return local_time(self._clock, self._zone)
