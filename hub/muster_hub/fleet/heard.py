"""Which devices have not heard yet of where the hub is going, or of whom to believe there."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from muster_hub.fleet.known import heard
from muster_hub.storage.models import Device
from muster_protocol.wire import contact

_ACTIVE = (~col(Device.revoked), col(Device.approved))


@dataclass(frozen=True)
class Unheard:
    """A device, and why it has not taken what it should know."""

    device: str
    why: str


def of_contact(session: Session, digest: str, now: float) -> list[Unheard]:
    """Devices that don't say that they have taken the contact of this digest."""
    return list(_unheard(session, now, lambda trust: trust.get("contact") == digest))


def of_authority(session: Session, fingerprint: str, now: float) -> list[Unheard]:
    """Devices that don't say that they believe the certificates of this authority."""
    return list(_unheard(session, now, lambda trust: fingerprint in trust.get("authorities", ())))


def count(session: Session) -> int:
    """Devices that there are to hear anything."""
    return session.exec(select(func.count()).select_from(Device).where(*_ACTIVE)).one()


def _unheard(
    session: Session, now: float, knows: Callable[[Mapping[str, Any]], bool]
) -> Iterator[Unheard]:
    for device in session.exec(select(Device).where(*_ACTIVE).order_by(col(Device.id))):
        report = device.report or {}
        if not knows(report.get("trust") or {}):
            yield Unheard(device.id, _why(device, report, now))


def _why(device: Device, report: Mapping[str, Any], now: float) -> str:
    facts = report.get("facts") or {}
    if not report:
        return "it has never reported"
    if contact.FIELD not in (facts.get("understands") or ()):
        return f"its agent ({facts.get('agent_version', 'unknown')}) can't be told: update it first"
    if not heard(device.online, device.last_seen, now):
        seen = time.strftime("%Y-%m-%d %H:%M", time.gmtime(device.last_seen or device.created))
        return f"it is offline, last seen {seen} UTC"
    return "it is online and has not taken it yet"
