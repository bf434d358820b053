"""Room on the hub's disk: a warning before it is full, and a plain refusal of what won't fit."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muster_protocol.wire.limits import MIB

WARN_SHARE = 0.05
WARN_BYTES = (256 * MIB, 1024 * MIB)
"""At least and at most this much is what the share is held to."""


@dataclass(frozen=True)
class Room:
    """How full the disk is."""

    free_bytes: int
    total_bytes: int

    @property
    def warn_bytes(self) -> int:
        """With less than this free, somebody should make room."""
        least, most = WARN_BYTES
        return int(min(max(self.total_bytes * WARN_SHARE, least), most))

    @property
    def state(self) -> str:
        """``ok``, ``low``, or ``full``: no upload is taken any more."""
        if self.refuses(0):
            return "full"
        return "low" if self.free_bytes < self.warn_bytes else "ok"

    def refuses(self, size_bytes: int) -> bool:
        """Whether something of this size would fill what must stay free for what devices send."""
        return self.free_bytes - size_bytes < self.warn_bytes // 4

    def __str__(self) -> str:
        return f"{self.free_bytes // MIB} MiB of {self.total_bytes // MIB} MiB are free"


def room_of(directory: Path) -> Callable[[], Room]:
    """Reads how much room the file system of a directory has."""

    def read() -> Room:
        usage = shutil.disk_usage(directory)
        return Room(usage.free, usage.total)

    return read
