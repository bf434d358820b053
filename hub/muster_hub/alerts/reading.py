"""Alerts as they are shown. Nothing here writes."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, true
from sqlmodel import Session, and_, col, func, not_, or_, select

from muster_hub.access.leave import ABOUT_MODELS
from muster_hub.access.scope import Scope
from muster_hub.monitoring import peers
from muster_hub.storage import models, selecting
from muster_protocol.wire import selectors

Plain = dict[str, Any]


def alerts(
    session: Session,
    scope: Scope,
    *,
    state: str | None,
    before: int | None,
    limit: int,
    selector: str | None = None,
) -> list[Plain]:
    """Alerts, the newest first, those of other models than in scope left out; with a selector those
    of devices that match."""
    query = select(models.Alert).order_by(col(models.Alert.id).desc()).limit(limit)
    if state is not None:
        query = query.where(col(models.Alert.state) == state)
    if before is not None:
        query = query.where(col(models.Alert.id) < before)
    if selector:
        chosen = selectors.parse(selector)
        query = query.where(col(models.Alert.device).in_(selecting.devices(chosen)))
    return [alert(row) for row in session.exec(query.where(_seen(scope)))]


@dataclass(frozen=True)
class AlertCounts:
    """Alerts that aren't resolved: ``open`` by severity, and how many devices drift."""

    open: dict[str, int]
    acknowledged: int
    drifting: int


def standing(session: Session, scope: Scope, *, selector: str) -> AlertCounts:
    """How many alerts stand within a scope; with a selector, those of devices that match."""
    row = models.Alert
    seen = [_seen(scope), col(row.state) != "resolved"]
    if selector:
        seen.append(col(row.device).in_(selecting.devices(selectors.parse(selector))))
    counted = session.exec(
        select(row.state, row.severity, func.count())
        .where(*seen)
        .group_by(col(row.state), col(row.severity))
    ).all()
    drifting = select(func.count(col(row.device).distinct())).where(row.kind == "drift", *seen)
    return AlertCounts(
        {severity: count for state, severity, count in counted if state == "open"},
        sum(count for state, _, count in counted if state == "acknowledged"),
        session.exec(drifting).one(),
    )


def of_device(session: Session, scope: Scope, device: str) -> list[Plain]:
    """The alerts of a device that aren't resolved, the newest first."""
    row = models.Alert
    query = select(row).where(col(row.device) == device, col(row.state) != "resolved")
    return [
        alert(found)
        for found in session.exec(query.where(_seen(scope)).order_by(col(row.id).desc()))
    ]


def _seen(scope: Scope) -> ColumnElement[bool]:
    """Holds for alerts that a scope lets be seen, as far as models go."""
    if not scope.models:
        return true()
    model = col(models.Alert.detail)["model"].as_string()
    named = and_(model.is_not(None), model != "")
    general = and_(not_(named), col(models.Alert.kind).not_in(ABOUT_MODELS))
    return or_(general, and_(named, selecting.of_models(model, scope.models)))


def alert(row: models.Alert) -> Plain:
    """An alert, and what to do about it where its cause says so."""
    cause = row.detail.get("cause", "unknown") if row.kind == "drift" else None
    by_cause = "" if cause is None else peers.ADVICE.get(cause, "")
    return row.model_dump() | {"advice": by_cause or row.detail.get("advice", "")}
