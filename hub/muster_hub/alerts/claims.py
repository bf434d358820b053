"""Devices that claim newer metadata than this hub has signed: told, and asked to show them.

A claim moves nothing. After a hub was set back many devices are right; otherwise one of them lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlmodel import Session

from muster_hub.alerts import rules
from muster_hub.alerts.rules import Condition
from muster_hub.fleet.known import Known
from muster_hub.signing.catching_up import CaughtUp
from muster_hub.storage.models import OutboxMessage
from muster_protocol.wire import topics

ASKED_AT_ONCE = 3
SHOW_SECONDS = 60
"""Afterwards nobody waits for the answer any more."""
CAUGHT_UP_SECONDS = 86_400.0
NAMED_MAX = 5


class Catalogue(Protocol):
    """What is published, as far as claims of devices about it matter."""

    def ahead(self, reported: Mapping[str, int]) -> dict[str, int]:
        """Roles of which a device reports a version above the hub's, and by how much."""
        ...

    def caught_up(self) -> CaughtUp | None:
        """When the hub last took over such versions; None: never."""
        ...


@dataclass(frozen=True)
class Claim:
    """A device says that it trusts a version which this hub never made."""

    device: str
    role: str
    version: int
    own: int


class Claims:
    """What the latest look found."""

    def __init__(self) -> None:
        self._found: list[Claim] = []
        self._caught_up: CaughtUp | None = None
        self._turn = 0

    def look(self, known: Mapping[str, Known], catalogue: Catalogue, now: float) -> None:
        """Compare what devices report with what is published."""
        del now
        claimed = {
            device.id: versions
            for device in known.values()
            if device.active and (versions := _versions(device))
        }
        highest: dict[str, int] = {}
        for versions in claimed.values():
            for role, version in versions.items():
                highest[role] = max(version, highest.get(role, 0))
        own = catalogue.ahead(highest) if highest else {}
        self._found = [
            Claim(device, role, versions[role], own[role])
            for device, versions in sorted(claimed.items())
            for role in sorted(versions.keys() & own.keys())
            if versions[role] > own[role]
        ]
        self._caught_up = catalogue.caught_up()

    def ask(self, session: Session, now: float) -> int:
        """Ask a few of them, others each time, to show what they claim; how many."""
        if not self._found:
            return 0
        devices = sorted({claim.device for claim in self._found})
        start = self._turn % len(devices)
        asked = (devices[start:] + devices[:start])[:ASKED_AT_ONCE]
        self._turn += ASKED_AT_ONCE
        for device in asked:
            topic = topics.down(device, "show")
            message = OutboxMessage(
                topic=topic, payload=b"", retain=False, expiry_seconds=SHOW_SECONDS, created=now
            )
            session.add(message)
        return len(asked)

    def conditions(self, now: float) -> list[Condition]:
        """Alerts that should stand now."""
        found = []
        if self._found:
            first = self._found[0]
            devices = sorted({claim.device for claim in self._found})
            found.append(
                rules.ahead(devices[:NAMED_MAX], len(devices), first.role, first.version, first.own)
            )
        latest = self._caught_up
        if latest is not None and 0 <= now - latest.at < CAUGHT_UP_SECONDS:
            found.append(rules.caught_up(latest.device, latest.versions))
        return found


def _versions(device: Known) -> dict[str, int]:
    trust = (device.report or {}).get("trust") or {}
    return {str(role): int(at) for role, at in (trust.get("versions") or {}).items()}
