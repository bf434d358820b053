"""The fleet in a few numbers, read from the database with a constant number of statements."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, col, func, or_, select

from muster_hub.fleet.known import HEARD_SECONDS
from muster_hub.storage import models
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sums import total, whole

DeviceState = Literal["online", "offline", "awaiting_approval", "revoked"]
ROLLOUTS_MAX = 200
"""Rollouts shown: those that move, then the newest that ended lately."""
ENDED_SHOWN_SECONDS = 7 * 86_400.0


class _Running(msgspec.Struct):
    model: str = ""
    version: str = ""


class _Slot(msgspec.Struct):
    running: _Running | None = None


class _Report(msgspec.Struct):
    """The little that is read of a report; the rest is skipped without being decoded."""

    slots: dict[str, _Slot] = {}


@dataclass
class Reading:
    """One look at the fleet. No count is kept by device: that would be a series each."""

    devices: Counter[DeviceState] = field(default_factory=Counter)
    running: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(model, version) → slots in which devices say it runs."""
    inferences: dict[tuple[str, str], int] = field(default_factory=dict)
    """(model, version) → inferences counted by devices and committed here, each once."""
    errors: dict[tuple[str, str], int] = field(default_factory=dict)
    drifting: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(model, feature) → devices with an open drift alert on it."""
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(cause, severity) → alerts that are open or acknowledged."""
    rollouts: dict[tuple[int, str], str] = field(default_factory=dict)
    """(rollout, model) → its state."""
    loops: dict[str, str] = field(default_factory=dict)
    """Model → the state of its latest loop."""
    messages_waiting: int = 0


def read(session: Session, now: float) -> Reading:
    """Count what the database holds at ``now`` (seconds since 1970)."""
    found = Reading()
    _devices(session, found, now)
    _inferences(session, found)
    _alerts(session, found)
    _rollouts(session, found, now)
    _loops(session, found)
    waiting = select(func.count()).where(col(models.OutboxMessage.published_at).is_(None))
    found.messages_waiting = session.exec(waiting).one()
    return found


def _devices(session: Session, found: Reading, now: float) -> None:
    device = models.Device
    query = sa.select(
        col(device.approved), col(device.revoked), col(device.online), col(device.last_seen),
        sa.cast(col(device.report), sa.Text()),
    ).where(col(device.deleted).is_(None))  # fmt: skip
    reports: msgspec.json.Decoder[_Report | None] = msgspec.json.Decoder(_Report | None)
    for approved, revoked, online, last_seen, report in session.connection().execute(query):
        heard = last_seen is None or now - last_seen < HEARD_SECONDS
        found.devices[_state(approved=approved, revoked=revoked, online=online and heard)] += 1
        if revoked or report is None:
            continue
        decoded = reports.decode(report)
        slots = decoded.slots.values() if decoded is not None else ()
        running = (slot.running for slot in slots if slot.running is not None)
        found.running.update((named.model, named.version) for named in running)


def _state(*, approved: bool, revoked: bool, online: bool) -> DeviceState:
    if revoked:
        return "revoked"
    if not approved:
        return "awaiting_approval"
    return "online" if online else "offline"


def _inferences(session: Session, found: Reading) -> None:
    window, rollup = models.SummaryWindow, models.Rollup
    for table, among in (
        (window, (col(window.fault) == "", col(window.rolled).is_(False))),
        (rollup, (col(rollup.level) == "day", col(rollup.device) != "")),
    ):
        rows = session.connection().execute(
            sa.select(col(table.model), col(table.version), total(table.n), total(table.errors))
            .where(*among)
            .group_by(col(table.model), col(table.version))
        )
        for model, version, inferences, errors in rows:
            if not model:
                continue
            key = (model, version)
            found.inferences[key] = found.inferences.get(key, 0) + whole(inferences)
            found.errors[key] = found.errors.get(key, 0) + whole(errors)


def _alerts(session: Session, found: Reading) -> None:
    alert = models.Alert
    query = select(alert.kind, alert.severity, alert.detail).where(col(alert.state) != "resolved")
    for kind, severity, detail in session.exec(query):
        found.alerts[kind, severity] += 1
        if kind == "drift":
            found.drifting.update(_drifting(detail))


def _drifting(detail: Mapping[str, Any]) -> set[tuple[str, str]]:
    model = str(detail.get("model", ""))
    return {(model, str(feature)) for feature in detail.get("features", ())}


def _loops(session: Session, found: Reading) -> None:
    latest = select(func.max(LoopRow.id)).group_by(col(LoopRow.model))
    query = select(LoopRow.model, LoopRow.state).where(col(LoopRow.id).in_(latest))
    found.loops = dict(session.exec(query).all())


def _rollouts(session: Session, found: Reading, now: float) -> None:
    rollout = models.Rollout
    moving = col(rollout.state).in_(("running", "paused"))
    query = (
        select(rollout.id, rollout.model, rollout.state)
        .where(or_(moving, col(rollout.updated) > now - ENDED_SHOWN_SECONDS))
        .order_by(moving.desc(), col(rollout.id).desc())
        .limit(ROLLOUTS_MAX)
    )
    found.rollouts = {
        (number, model): state for number, model, state in session.exec(query) if number is not None
    }
