"""The clock as the agent sees it: three readings that must not be confused.

Decisions use ``monotonic`` seconds handed to them as ``now``; ``wall`` only labels things and may
be wrong by decades; ``quality`` says how far to believe it.
"""

import ctypes
import os
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol

from muster_protocol.wire.messages import ClockQuality, Stamp

_TIMEX_BYTES = 512
"""More than ``struct timex`` takes on any Linux; its first field, ``modes``, stays 0: only read."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised to a reliable server."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that only move forward, comparable within one boot."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 as the device believes them."""
        ...

    def boot_id(self) -> bytes:
        """16 bytes, new at each boot."""
        ...

    def quality(self) -> ClockQuality: ...


class SystemClock:
    """The clocks of the Linux kernel."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._boot_id = bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
        except (OSError, ValueError):
            # Without it a restart of the agent counts as a boot: safe, monotonic times just
            # stop being comparable sooner.
            self._boot_id = os.urandom(16)

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def boot_id(self) -> bytes:
        return self._boot_id

    def quality(self) -> ClockQuality:
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = int(self._libc.adjtimex(timex))
        return "synchronised" if 0 <= state < _TIME_ERROR else "unknown"


def stamp(clock: Clock) -> Stamp:
    """When something happened, in the form that travels to the hub."""
    return Stamp(clock.boot_id(), clock.monotonic(), clock.wall(), clock.quality())


def local_time(clock: Clock, zone: tzinfo | None) -> datetime:
    """What a clock on the wall shows; ``zone`` None is the system's."""
    # Not fromtimestamp: a clock that believes in an impossible year must not raise.
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=clock.wall())
    return now.astimezone(zone)
