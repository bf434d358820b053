"""The device's own clock, read from the kernel."""

import ctypes
import os
import time
from pathlib import Path

from muster_protocol.wire.messages import ClockQuality

_TIMEX_BYTES = 512
"""More than ``struct timex`` takes on any Linux; its first field, ``modes``, stays 0: only read."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised to a reliable server."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
        """Seconds since some moment before this boot's first process; never goes back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970 by the system's clock, right or wrong."""
        return time.time()

    def boot_id(self) -> bytes:
        """The kernel's random name for this boot."""
        return self._boot_id

    def quality(self) -> ClockQuality:
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = int(self._libc.adjtimex(timex))
        return "synchronised" if 0 <= state < _TIME_ERROR else "unknown"
