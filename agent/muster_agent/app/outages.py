"""Why the device is offline: in the log and for ``status`` at once, for the hub once it is back."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from muster_agent.base.clock import Clock, stamp
from muster_agent.storage.files import unlink_durably, write_durably
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX
from muster_protocol.wire.messages import Event

log = logging.getLogger(__name__)
FILE = "offline.json"
TOLD_SECONDS = 60.0
"""The hub hears of an outage that lasted as long; a shorter one is a hiccup."""
REASONS_MAX = 4
"""Of one outage, as many different ones as the hub hears of."""


class Offline(Struct, frozen=True):
    """Since when, by the device's own wall clock, and why as far as is known now."""

    since: float
    reason: str


Show = Callable[[Offline | None], None]


class Outages:
    """Times are monotonic seconds."""

    def __init__(self, clock: Clock, show: Show, report: Callable[[Event], None]) -> None:
        self._clock = clock
        self._show = show
        self._report = report
        self._began: float | None = None
        self._since_wall = 0.0
        self._reasons: list[str] = []
        self._reason = ""

    def lost(self, reason: str, now: float) -> None:
        """The link is down, or could not be made; told when the reason is another one."""
        if self._began is None:
            self._began, self._since_wall = now, self._clock.wall()
            self._reason, self._reasons = "", []
        if reason == self._reason:
            return
        self._reason = reason
        log.warning("offline: %s", reason)
        if reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            self._reasons.append(reason)
        self._show(Offline(self._since_wall, reason))

    def over(self, now: float) -> None:
        """The link is up. Raises sqlite3.Error when the hub can't be told of the outage."""
        began, self._began = self._began, None
        self._show(None)
        if began is None:
            return
        seconds = now - began
        log.info("online again after %.0f s", seconds)
        if seconds >= TOLD_SECONDS:
            detail = f"was offline for {seconds:.0f} s: {'; then: '.join(self._reasons)}"
            self._report(
                Event(
                    kind="note",
                    at=stamp(self._clock),
                    detail=detail[:EVENT_DETAIL_CHARS_MAX],
                    values={"offline_seconds": seconds},
                )
            )


def shown_in(directory: Path) -> Show:
    """Shows it in a file beside the agent's state. What can't be written is in the log anyway."""
    path = directory / FILE

    def show(offline: Offline | None) -> None:
        with contextlib.suppress(OSError):
            if offline is None:
                unlink_durably(path)
            else:
                write_durably(path, msgspec.json.encode(offline))

    return show


def read(directory: Path) -> Offline | None:
    """What a running agent shows; None when it is online or says nothing readable."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Offline)
    except (OSError, msgspec.DecodeError):
        return None
