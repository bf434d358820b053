"""What ends soon: certificates and metadata, of the fleet and of the hub, the soonest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlmodel import Session, col, or_, select

from muster_hub.alerts import rules
from muster_hub.storage import selecting
from muster_hub.storage.models import Device
from muster_protocol.wire import selectors

Kind = Literal["certificate", "authority", "metadata", "device_metadata"]


@dataclass(frozen=True, order=True)
class Ending:
    """``expires`` in seconds since 1970. ``name`` is a device, or a role of the catalogue."""

    expires: float
    kind: Kind
    name: str
    role: str = ""
    """Of ``device_metadata``: the first of the roles that the device trusts to end."""


def ending(
    session: Session,
    *,
    roles: Mapping[str, float],
    authority: float,
    selector: str,
    now: float,
    within_seconds: float,
) -> list[Ending]:
    """All that ends within this time, or has ended. Revoked devices don't count."""
    until = now + within_seconds
    rows = session.exec(
        select(Device.id, Device.certificate_expires, Device.report)
        .where(selecting.matching(selectors.parse(selector)))
        .where(col(Device.revoked).is_(False))
        .where(or_(col(Device.certificate_expires) < until, col(Device.late_from) < now))
    )
    found = [Ending(expires, "metadata", role) for role, expires in roles.items()]
    found.append(Ending(authority, "authority", "certificate authority"))
    for device, expires, report in rows:
        if expires is not None:
            found.append(Ending(expires, "certificate", device))
        held = _held(report)
        late = behind(held, now)
        if late is not None:
            found.append(Ending(held[late], "device_metadata", device, late))
    return sorted(end for end in found if end.expires < until)


def late_from(report: Mapping[str, Any] | None) -> float | None:
    """From when on a device with this report is behind in one role or another."""
    marks = [expires - _margin_seconds(role) for role, expires in _held(report).items()]
    return min(marks, default=None)


def behind(held: Mapping[str, float], now: float) -> str | None:
    """The role whose end a device nears first without having taken a newer one, if any.

    The hub signs anew long before these marks, so a device beyond one has not been reached.
    """
    late = [
        (expires, role) for role, expires in held.items() if expires - _margin_seconds(role) < now
    ]
    return min(late)[1] if late else None


def _held(report: Mapping[str, Any] | None) -> dict[str, float]:
    """When the metadata that a report names end, by role."""
    held = ((report or {}).get("trust") or {}).get("expires") or {}
    return {str(role): float(at) for role, at in held.items()}


def _margin_seconds(role: str) -> float:
    return rules.metadata_warn_days(role) * rules.DAY_SECONDS
