"""How much telemetry may send on one day, with something kept back for what matters more.

Pure but for the count, which must outlive restarts. A batch ends with the row that uses the budget
up, so a day may be overshot by one row. Rows sent again are counted again: the link carries them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from muster_protocol.wire.limits import MIB
from muster_protocol.wire.messages import Stream

EVENTS_RESERVE = 1 / 8
"""Of the day's bytes that summaries leave to events."""
SAMPLES_SHARE = 1 / 2
"""Of the day's bytes after which no samples go any more."""
LOOK_SECONDS = 60.0
"""How often a used-up day is looked at again."""


@dataclass(frozen=True)
class DayBudget:
    """``day()`` names today; ``spent(day, more)`` adds to its durable count and returns that."""

    bytes_per_day: int
    """0: without bound; then nothing is counted."""
    day: Callable[[], int]
    spent: Callable[[int, int], int]
    samples_share: float = SAMPLES_SHARE

    def left(self, stream: Stream) -> float:
        """Bytes that the stream may send today, which may be less than nothing."""
        if not self.bytes_per_day:
            return float("inf")
        return self.bytes_per_day * self._share(stream) - self.spent(self.day(), 0)

    def _share(self, stream: Stream) -> float:
        match stream:
            case "event":
                return 1.0
            case "summary":
                return 1.0 - EVENTS_RESERVE
            case "sample":
                return self.samples_share
            case _:
                assert_never(stream)

    def spend(self, size: int) -> None:
        """Count bytes that were sent today."""
        if self.bytes_per_day:
            self.spent(self.day(), size)

    def reason(self, stream: Stream) -> str:
        """What the stream waits for; empty when it may send."""
        if self.left(stream) > 0:
            return ""
        return f"tomorrow: today's {self.bytes_per_day / MIB:g} MiB are sent"


UNBOUNDED = DayBudget(0, lambda: 0, lambda _day, _more: 0)
