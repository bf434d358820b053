"""Maintenance windows: when a device may swap, in its own time zone. Pure.

The zone is the device's label ``timezone`` (a name of the IANA database such as
``Europe/Berlin``), or the window's own ``time_zone``. Times are what a clock on the wall there
shows, so a window moves with summer time.
"""

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_protocol.wire.errors import ProtocolError

LABEL = "timezone"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AHEAD_DAYS = 370
"""How far ahead changes of the clocks are looked for: each zone's next ones are within a year."""
_CLOCK = re.compile(r"\A([01][0-9]|2[0-3]):([0-5][0-9])\Z")


class MaintenanceWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """A span of local time in which devices may swap, as a plan writes it."""

    start: str
    """Local time such as ``22:00``."""
    end: str
    """Local time; at or before ``start`` it is on the next day."""
    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS
    """On which it starts."""
    time_zone: str = "UTC"
    """For devices without a ``timezone`` label."""

    def check(self) -> None:
        """Raise ProtocolError for an impossible time or zone."""
        for text in (self.start, self.end):
            if not _CLOCK.match(text):
                raise ProtocolError(f"window time {text[:20]!r}: use HH:MM, 00:00 to 23:59")
        if _zone(self.time_zone) is None:
            raise ProtocolError(f"time zone {self.time_zone[:40]!r} is not known here")

    def zone_of(self, labels: Mapping[str, str]) -> dt.tzinfo | None:
        """The zone of a device with these labels; None when nobody knows it."""
        return _zone(labels.get(LABEL, self.time_zone))

    def spans(self, day: dt.date, zone: dt.tzinfo) -> tuple[float, float] | None:
        """Start and end of the window that starts on ``day``, in seconds since 1970."""
        if DAYS[day.weekday()] not in self.days:
            return None
        ends_on = day + dt.timedelta(days=self.end <= self.start)
        return _at(day, self.start, zone), _at(ends_on, self.end, zone)


def refusal(
    windows: Iterable[MaintenanceWindow], labels: Mapping[str, str], now: float
) -> str | None:
    """Why a device with these labels may not swap at ``now``, in words; None when it may."""
    windows = tuple(windows)
    if not windows:
        return None
    nearest: tuple[float, dt.tzinfo] | None = None
    for window in windows:
        zone = window.zone_of(labels)
        if zone is None:
            return f"the device's time zone {labels[LABEL]!r} is not known to the hub"
        today = dt.datetime.fromtimestamp(now, zone).date()
        for offset in range(-1, 9):
            spans = window.spans(today + dt.timedelta(days=offset), zone)
            if spans is None:
                continue
            if spans[0] <= now < spans[1]:
                return None
            if spans[0] > now and (nearest is None or spans[0] < nearest[0]):
                nearest = spans[0], zone
    assert nearest is not None  # a window has a day, and a week was looked through
    opens = dt.datetime.fromtimestamp(nearest[0], tz=nearest[1])
    return f"its maintenance window opens {opens:%a %d %b %H:%M} ({nearest[1]})"


def skipped(
    windows: Iterable[MaintenanceWindow], labels: Mapping[str, str], now: float
) -> list[str]:
    """Windows that begin in an hour which the next change of the clocks skips, in words."""
    found = []
    for window in windows:
        zone = window.zone_of(labels)
        if zone is None:
            continue
        today = dt.datetime.fromtimestamp(now, zone).date()
        for offset in range(AHEAD_DAYS):
            day = today + dt.timedelta(days=offset)
            spans = window.spans(day, zone)
            if spans is None:
                continue
            opens = f"{dt.datetime.fromtimestamp(spans[0], zone):%H:%M}"
            if opens == window.start:
                continue
            happens = "does not open" if spans[1] <= spans[0] else f"opens at {opens}"
            found.append(
                f"the window {window.start}-{window.end} of {day:%a %d %b %Y} {happens} in {zone}: "
                "the clocks go forward over its start"
            )
            break
    return found


def _zone(name: str) -> dt.tzinfo | None:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _at(day: dt.date, clock: str, zone: dt.tzinfo) -> float:
    hour, minute = (int(part) for part in clock.split(":"))
    return dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
