"""Maintenance windows as a directive carries them: when a device may swap, by its own wall clock.

Pure: the caller brings the local time. A window follows summer time, as people's shifts do; in the
hour that a change skips or repeats it is open as the clock on the wall shows.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ClockTime = Annotated[str, Meta(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]


class MaintenanceWindow(Struct, frozen=True, forbid_unknown_fields=True):
    """A span of local time, on some days of the week, in which a device may swap."""

    start: ClockTime
    """``HH:MM``, local to the device."""
    end: ClockTime
    """Not part of it any more. At or before ``start`` it is on the next day."""
    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS
    """On which it starts."""


def is_open(windows: Iterable[MaintenanceWindow], local: datetime) -> bool:
    """Whether any window is open at a device's local time."""
    minute = local.hour * 60 + local.minute
    today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
    for window in windows:
        start, end = _minutes(window.start), _minutes(window.end)
        if start < end:
            if today in window.days and start <= minute < end:
                return True
        elif (today in window.days and minute >= start) or (
            yesterday in window.days and minute < end
        ):
            return True
    return False


def describe(windows: Iterable[MaintenanceWindow]) -> str:
    """What a device outside every window waits for, for its report."""
    return f"its maintenance window: {', '.join(map(_described, windows))}"


def _described(window: MaintenanceWindow) -> str:
    days = "" if set(window.days) == set(DAYS) else f" on {' '.join(window.days)}"
    return f"{window.start}-{window.end}{days}"


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])
