"""Connections that one machine takes from another under the same identity, from the broker's log.
Pure.

MQTT gives a client's name to whoever connected last. A device that comes back after a broken line
takes over from itself, from the same address. Two cards with one identity take it from each other,
again and again, mostly from two addresses.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

REMEMBERED_MAX = 50_000
REPORT_SECONDS = 10.0
"""Of one device and direction: two machines that reconnect all the time fill no database."""
_DIRECTIONS_MAX = 8

_TAKEN = re.compile(r"Client (\S{1,64}) already connected, closing old connection\.\Z")
_CONNECTED = re.compile(r"New client connected from (\S{1,64}):\d{1,5} as (\S{1,64}) \(")


@dataclass(frozen=True)
class Takeover:
    """A device's connection went over to another one of the same name."""

    device: str
    address: str
    before: str
    """Where the connection came from that had to go; empty when that isn't known."""


@dataclass
class _Seen:
    address: str
    reported: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a takeover between two addresses was last reported."""


class Takeovers:
    """Reads the broker's lines in order. Times are seconds."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._taken: set[str] = set()

    def read(self, line: str, now: float) -> Takeover | None:
        """The takeover that a line completes, unless one of that device was just reported."""
        if (taken := _TAKEN.search(line)) is not None:
            if len(self._taken) < REMEMBERED_MAX:
                self._taken.add(taken[1])
            return None
        if (connected := _CONNECTED.search(line)) is None:
            return None
        address, device = connected[1], connected[2]
        seen = self._seen.pop(device, None) or _Seen("")
        before, seen.address = seen.address, address
        self._seen[device] = seen
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)
        if device not in self._taken:
            return None
        self._taken.discard(device)
        way = before, address
        if now - seen.reported.get(way, float("-inf")) < REPORT_SECONDS:
            return None
        if len(seen.reported) >= _DIRECTIONS_MAX:
            seen.reported.clear()
        seen.reported[way] = now
        return Takeover(device, address, before)
