"""What a device claims and the hub can't believe: each is shown, none moves anything but an alert.

A report is a device's own word. Its proof covers what it runs, its epoch and its generation; what
contradicts what the hub itself issued or signed is a fault, a restored backup, or a lie.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from muster_hub.alerts import rules
from muster_hub.alerts.rules import Condition
from muster_hub.fleet.known import Known
from muster_hub.identity import proof
from muster_hub.storage import models

DEVICES_PER_QUERY = 500
INFERENCES_PER_SECOND_MAX = 1e7
"""Faster than any device answers, by an order of magnitude."""


@dataclass(frozen=True)
class GivenToDevice:
    """What the hub gave a device: its directive, and the certificates in force (PEM)."""

    epoch: int
    generation: int
    certificates: tuple[str, ...]


def doubts(device: str, report: Mapping[str, Any], issued: GivenToDevice | None) -> dict[str, str]:
    """Kind of doubt → what the report says that can't be, in words. Pure."""
    found = {}
    keys = issued.certificates if issued is not None else ()
    if keys and report.get("proof") and not proof.is_proved(device, report, keys):
        found["proof"] = "its proof is not by the key of any certificate it was given"
    held = (report.get("epoch", 0), report.get("generation", 0))
    given = (issued.epoch, issued.generation) if issued is not None else (0, 0)
    if held > given:
        found["generation"] = (
            f"it claims generation {held[1]} of epoch {held[0]}; the last that this hub gave it is "
            f"{given[1]} of epoch {given[0]}"
        )
    for slot, entry in sorted((report.get("slots") or {}).items()):
        running = entry.get("running") or {}
        if (why := _of_running(running, report.get("at"))) is not None:
            found[f"running/{slot}"] = f"{slot}: {why}"
    return found


def _of_running(running: Mapping[str, Any], at: Any) -> str | None:
    inferences, errors = running.get("inferences", 0), running.get("errors", 0)
    since = running.get("since")
    if not (isinstance(since, list | tuple) and isinstance(at, list | tuple)):
        return None
    if len(since) < 2 or len(at) < 2 or since[0] != at[0]:
        return None  # of an earlier boot: how long it serves can't be said
    seconds = max(float(at[1]) - float(since[1]), 0.0) + 1.0
    if inferences + errors > seconds * INFERENCES_PER_SECOND_MAX:
        return f"{inferences} inferences and {errors} errors within {seconds:.0f} s"
    return None


class Doubts:
    """Doubts about the devices known, worked out anew for those whose report changed."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = {}
        self._looked: dict[str, tuple[float | None, bool]] = {}

    def look(self, session: Session, known: Mapping[str, Known], changed: Collection[str]) -> None:
        """Judge the reports that changed; forget devices that are gone."""
        for gone in changed:
            if gone not in known:
                self._looked.pop(gone, None)
                self._found.pop(gone, None)
        listed = sorted(
            name
            for name in changed
            if name in known
            and self._looked.get(name) != (known[name].reported, known[name].active)
        )
        for first in range(0, len(listed), DEVICES_PER_QUERY):
            some = listed[first : first + DEVICES_PER_QUERY]
            issued = _issued(session, some)
            for name in some:
                device = known[name]
                self._found.pop(name, None)
                self._looked[name] = device.reported, device.active
                if not (device.active and device.report):
                    continue
                found = doubts(name, device.report, issued.get(name))
                if found:
                    self._found[name] = found

    def conditions(self) -> list[Condition]:
        """Alerts that should stand now."""
        return [
            rules.doubted(device, kind, why)
            for device, found in sorted(self._found.items())
            for kind, why in found.items()
        ]


def _issued(session: Session, devices: Iterable[str]) -> dict[str, GivenToDevice]:
    names = list(devices)
    row, held = models.DirectiveRow, models.Certificate
    given = {
        device: (epoch, generation)
        for device, epoch, generation in session.exec(
            select(row.device, row.epoch, row.generation).where(col(row.device).in_(names))
        )
    }
    certificates: dict[str, list[str]] = {}
    for device, pem in session.exec(
        select(held.device, held.pem).where(
            col(held.device).in_(names), col(held.revoked).is_(None)
        )
    ):
        certificates.setdefault(device, []).append(pem)
    return {
        name: GivenToDevice(*given.get(name, (0, 0)), tuple(certificates.get(name, ())))
        for name in names
    }
