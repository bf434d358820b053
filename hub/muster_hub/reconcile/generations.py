"""Which generation a directive gets, so that a device takes it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

LEAP_MAX = 10_000
"""How far above its own a hub follows a generation that a device claims to hold."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a device was told last, as far as it decides whether it needs to be told anew."""

    epoch: int
    generation: int
    content_sha256: str
    issued: float
    keyid: str


class Reports(Protocol):
    """A device, as far as its next generation depends on it."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def report(self) -> Mapping[str, Any] | None:
        """What it reported last; None: nothing yet."""
        ...


class Generations:
    """A device that holds a higher one than the hub gave is told the same above that; but once a
    review, lest the hub and a thief of its key outbid each other with every report.
    """

    def __init__(self) -> None:
        self._ahead: set[str] = set()
        self._followed: set[str] = set()

    def review(self, changed: Iterable[str]) -> set[str]:
        """A review begins: those that changed are followed if they hold more than they were given,
        and so are those that were found to since the last one. Returns the latter.
        """
        found, self._ahead = self._ahead, set()
        self._followed = found.union(changed)
        return found

    def next(self, device: Reports, held: Held | None, digest: str, epoch: int) -> int:
        """The same one for the same content, else one more than the hub or the device has seen.

        A device may have seen more than the hub knows: while it was revoked its row was forgotten.
        It refuses what is older than that, so then the same content is told under a higher one.
        """
        followed = device.id in self._followed
        self._followed.discard(device.id)
        own = held.generation if held is not None and held.epoch == epoch else 0
        report = device.report or {}
        reported = int(report.get("generation", 0)) if report.get("epoch") == epoch else 0
        if reported > own + LEAP_MAX:
            reported = 0  # No hub has given so many: it is shown as a doubt, not followed.
        if not own or held is None or held.content_sha256 != digest:
            return max(own, reported) + 1
        if reported <= own:
            return own
        if followed:
            return reported + 1
        self._ahead.add(device.id)
        return own
