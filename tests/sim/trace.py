"""What happened in a world, in order: the timeline a person reads."""

import hashlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.scheduler import Scheduler

LINES_MAX = 20_000


class Trace:
    def __init__(self, clock: "Scheduler") -> None:
        self._clock = clock
        self._whole = hashlib.sha256()
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=LINES_MAX)
        self.count = 0

    def add(self, who: str, what: str) -> None:
        self.count += 1
        self.lines.append((self._clock.now, who, what))
        self._whole.update(f"{self._clock.now:.6f} {who} {what}\n".encode())

    @property
    def digest(self) -> str:
        """Equal for two runs that went the same way."""
        return self._whole.hexdigest()[:16]

    def text(self, last: int = LINES_MAX, about: str | None = None) -> str:
        """The last lines; with ``about`` only those of one device, the hub and the operators."""
        shared = {about, "hub", "operator", "world", "fault", "VIOLATION"}
        chosen = [line for line in self.lines if about is None or line[1] in shared]
        return "\n".join(f"{clock(at)}  {who:<9} {what}" for at, who, what in chosen[-last:])


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}.{int(seconds * 10) % 10}"
