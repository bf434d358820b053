"""The agent's log on its way to somebody who watches it at the hub: bounded, redacted, for a while.

Lines go home as events, so that they wait for a link, come once and count among the day's bytes.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UnsetType

from muster_agent.app.redacting import redacted
from muster_agent.storage.state import StateDatabase
from muster_agent.trust.time import Instant
from muster_protocol.wire import limits
from muster_protocol.wire.bounds import clean
from muster_protocol.wire.directive import TimedRequest
from muster_protocol.wire.messages import Event, Stamp

COUNTER = "log_watches"
WATCH_SECONDS = 120.0
"""How long lines are sent once somebody has begun to watch."""
TURN_SECONDS = 2.0
LINES_PER_TURN = 20
RECENT_LINES = 50
"""Kept for whoever begins to watch."""
LINES_MAX = 300
"""Of one request."""
BYTES_MAX = 48 * limits.KIB
"""Likewise."""
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class LogLine:
    """``number`` counts the lines since the agent's start."""

    number: int
    at: Stamp
    text: str


class LogLines(logging.Handler):
    """The latest lines of the log, in memory and redacted."""

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        super().__init__(logging.INFO)
        self._stamp = stamp
        self._kept: deque[LogLine] = deque(maxlen=RECENT_LINES)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; what can't be put into words is not kept."""
        try:
            text = f"{record.levelname} {record.name}: {record.getMessage()}"
        except (TypeError, ValueError):
            self.handleError(record)
            return
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._count += 1
        line = clean(redacted(text), line=True)[: limits.EVENT_DETAIL_CHARS_MAX]
        self._kept.append(LogLine(self._count, self._stamp(), line))

    def after(self, number: int) -> list[LogLine]:
        """What is kept of the lines behind ``number``, the oldest first."""
        self.acquire()
        try:
            return [line for line in self._kept if line.number > number]
        finally:
            self.release()


class LogWatching:
    """Times are monotonic seconds. A request counts once, also across restarts."""

    def __init__(
        self,
        state: StateDatabase,
        lines: LogLines,
        instant: Callable[[], Instant],
        may_send: Callable[[], bool],
    ) -> None:
        """``instant`` is trusted time; ``may_send``: the day's bytes leave room for it."""
        self._state, self._lines, self._instant = state, lines, instant
        self._may_send = may_send
        self._request = 0
        self._until = self._turn_at = -_NEVER
        self._sent = self._count = self._bytes = 0

    def obey(self, asked: TimedRequest | UnsetType, now: float) -> None:
        """Begin to send when a directive asks for more than it did, and not too late."""
        if isinstance(asked, UnsetType) or asked.request <= self._state.counter(COUNTER):
            return
        self._state.reach(COUNTER, asked.request)
        if self._instant().past(asked.until):
            return
        if now >= self._until:
            self._sent = max(self._sent, self._oldest() - 1)
        self._request = asked.request
        self._until, self._turn_at = now + WATCH_SECONDS, now
        self._count = self._bytes = 0

    def events(self, now: float) -> list[Event]:
        """What is to be sent now; joins a transaction."""
        if now < self._turn_at or now >= self._until:
            return []
        self._turn_at = now + TURN_SECONDS
        if not self._may_send():
            self._until = now
            return []
        found: list[Event] = []
        for line in self._lines.after(self._sent)[:LINES_PER_TURN]:
            lost = line.number - self._sent - 1
            if lost and self._sent:
                found.append(self._event(line.at, f"WARNING log: {lost} lines were not sent"))
            self._sent = line.number
            found.append(self._event(line.at, line.text))
            self._count += 1
            self._bytes += len(line.text.encode())
            if self._count >= LINES_MAX or self._bytes >= BYTES_MAX:
                found.append(self._event(line.at, "WARNING log: no more lines for this request"))
                self._until = now
                break
        return found

    def deadline(self, now: float) -> float:
        """When there may be something to send next."""
        return self._turn_at if now < self._until else _NEVER

    def _oldest(self) -> int:
        return next((line.number for line in self._lines.after(0)), 1)

    def _event(self, at: Stamp, text: str) -> Event:
        return Event(kind="log", at=at, values={"request": float(self._request)}, detail=text)
