"""Alerts: what needs somebody's attention."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from muster_hub import audit, queries
from muster_hub.api.auth import HubDep, Operator, Reader
from muster_hub.api.pages import Cursor, Limit, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas import View
from muster_hub.db.models import AlertState
from muster_hub.engine import commands
from muster_hub.errors import NotFound

router = APIRouter(tags=["alerts"])
Action = Literal["acknowledge", "resolve"]
_ACTIONS: dict[Action, Callable[..., None]] = {
    "acknowledge": commands.acknowledge_alert,
    "resolve": commands.resolve_alert,
}


@router.get("/alerts", responses=answers(401, 422))
def alerts(
    hub: HubDep,
    _: Reader,
    state: Annotated[AlertState | None, Query()] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[View]:
    """Alerts, the newest first."""
    with hub.store.read() as session:
        items = queries.alerts(session, state=state, before=number(cursor), limit=limit + 1)
    return Page(**page(items, limit, lambda item: item["id"]))


@router.post("/alerts/{alert}/{action}", responses=answers(401, 403, 404, 409))
def act(hub: HubDep, actor: Operator, alert: int, action: Action) -> View:
    """Acknowledge an alert (somebody looks at it) or resolve it."""
    now = hub.clock()
    with hub.store.write() as session:
        _ACTIONS[action](session, alert, by=actor.name, now=now)
        audit.append(
            session,
            actor=actor.label,
            action=f"alert.{action}",
            subject=f"alert/{alert}",
            now=now,
        )
    hub.changed()
    with hub.store.read() as session:
        found = queries.alert(session, alert)
    if found is None:
        raise NotFound(f"there is no alert {alert}")
    return found
