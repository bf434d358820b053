"""What channels for people say of a delivery: a title, a line for each alert, how bad it is."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from muster_hub.alerts.channels.base import Outgoing
from muster_hub.alerts.messages import iso
from muster_hub.storage.telemetry import Severity

LINES_MAX = 10
"""Alerts that a message names; it says how many more there are."""
LINE_CHARS_MAX = 300
WORST_FIRST: tuple[Severity, ...] = ("critical", "warning", "info")


class AlertWords(Struct, frozen=True):
    """An alert in a delivery's body, as far as people are told of it."""

    id: int
    key: str
    kind: str
    severity: Severity
    state: str
    title: str
    opened: float
    updated: float
    device: str | None = None
    detail: dict[str, Any] = {}


class Words(Struct, frozen=True):
    """A delivery's body, as ``messages`` makes it."""

    type: Annotated[str, Meta(min_length=1)]
    at: float
    title: str
    alerts: tuple[AlertWords, ...] = ()
    site: str = ""
    model: str = ""
    cause: str = ""

    @property
    def worst(self) -> Severity:
        """Of its alerts; what is no alert is for information."""
        found = {alert.severity for alert in self.alerts}
        return next((word for word in WORST_FIRST if word in found), "info")

    @property
    def resolved(self) -> bool:
        """Whether all that it speaks of has ended."""
        return self.type == "alert.resolved"

    @property
    def lines(self) -> list[str]:
        """A line for each of the first alerts, and one for how many more there are."""
        shown = [
            shortened(
                f"{alert.severity}, {alert.state} since {iso(alert.opened)}: {alert.title}",
                LINE_CHARS_MAX,
            )
            for alert in self.alerts[:LINES_MAX]
        ]
        more = len(self.alerts) - len(shown)
        return [*shown, f"and {more} more"] if more > 0 else shown


def read(delivery: Outgoing) -> Words:
    """The words of a delivery's body."""
    return msgspec.json.decode(delivery.body, type=Words)


def shortened(text: str, chars_max: int) -> str:
    """``text``, its end left out where it is longer."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def inbox(delivery: Outgoing) -> str:
    """Where people see and acknowledge alerts; empty when the hub's address isn't known."""
    return f"{delivery.hub}/inbox" if delivery.hub else ""
