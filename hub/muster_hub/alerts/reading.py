"""Alerts as they are shown. Nothing here writes."""

from typing import Any

from sqlmodel import Session, and_, col, not_, or_, select

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
    if scope.models:
        model = col(models.Alert.detail)["model"].as_string()
        named = and_(model.is_not(None), model != "")
        general = and_(not_(named), col(models.Alert.kind).not_in(ABOUT_MODELS))
        query = query.where(or_(general, and_(named, selecting.of_models(model, scope.models))))
    if selector:
        chosen = selectors.parse(selector)
        query = query.where(col(models.Alert.device).in_(selecting.devices(chosen)))
    return [alert(row) for row in session.exec(query)]


def alert(row: models.Alert) -> Plain:
    """An alert, and what to do about it where its cause says so."""
    cause = row.detail.get("cause", "unknown") if row.kind == "drift" else None
    return row.model_dump() | {"advice": "" if cause is None else peers.ADVICE.get(cause, "")}
