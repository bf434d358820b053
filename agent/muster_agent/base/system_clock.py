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
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def boot_id(self) -> bytes:
        return self._boot_id

    def quality(self) -> ClockQuality:
        timex = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = int(self._libc.adjtimex(timex))
        return "synchronised" if 0 <= state < _TIME_ERROR else "unknown"
