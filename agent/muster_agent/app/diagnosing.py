"""Looking at everything here because an operator asked the hub for it: ``doctor`` from afar.

What was found goes home as events, one for each check and for each of the latest warnings, so that
it waits for a link, is counted once and is bounded as every other event is.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from msgspec import UnsetType

from muster_agent.app.doctor import Finding
from muster_agent.app.ports import Diagnosed
from muster_agent.app.redacting import redacted
from muster_agent.storage.state import StateDatabase
from muster_protocol.wire.bounds import clean
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX
from muster_protocol.wire.messages import Event, Stamp

COUNTER = "diagnoses"
FINDINGS_MAX = 64
WARNINGS_MAX = 16
"""Of the log, the latest."""


class LatestWarnings(logging.Handler):
    """The latest lines of the log that tell of trouble, in memory and redacted."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=WARNINGS_MAX)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; what can't be put into words is not kept."""
        try:
            line = f"{record.levelname} {record.name}: {record.getMessage()}"
            self._lines.append(redacted(line))
        except (TypeError, ValueError):
            self.handleError(record)

    def lines(self) -> list[str]:
        """The oldest first."""
        return list(self._lines)


class Diagnosing:
    """One look at a time, on a thread of its own: a broker that doesn't answer takes seconds."""

    def __init__(
        self,
        state: StateDatabase,
        examine: Callable[[], Iterator[Finding]],
        done: Callable[[Diagnosed], None],
        warnings: Callable[[], list[str]],
    ) -> None:
        """``done`` is called on the thread; ``examine`` never raises."""
        self._state, self._examine, self._done, self._warnings = state, examine, done, warnings
        self._looking = 0

    def obey(self, asked: int | UnsetType) -> None:
        if isinstance(asked, UnsetType) or self._looking or asked <= self._state.counter(COUNTER):
            return
        self._looking = asked
        thread = threading.Thread(target=self._look, args=(asked,), name="diagnosis", daemon=True)
        thread.start()

    def _look(self, request: int) -> None:
        findings = islice(self._examine(), FINDINGS_MAX)
        lines = [f"{finding.grade} {finding.check}: {finding.line}" for finding in findings]
        lines += [f"log {line}" for line in self._warnings()]
        self._done(Diagnosed(request, tuple(lines)))

    def events(self, done: Diagnosed, at: Stamp) -> list[Event]:
        self._looking = 0
        if not self._state.reach(COUNTER, done.request):
            return []
        values = {"request": float(done.request)}
        return [
            Event(kind="diagnosis", at=at, values=values, detail=_short(line))
            for line in done.lines
        ]


def _short(line: str) -> str:
    return clean(line, line=True)[:EVENT_DETAIL_CHARS_MAX]
