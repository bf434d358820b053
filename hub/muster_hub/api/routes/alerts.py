"""Alerts: what needs somebody's attention."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlmodel import Session

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, SelectorText, number, page, sent
from muster_hub.api.problems import answers
from muster_hub.api.schemas.alerts import AlertView
from muster_hub.api.schemas.base import View
from muster_hub.audit import log
from muster_hub.rollouts import commands
from muster_hub.storage.models import AlertState

router = APIRouter(tags=["alerts"], route_class=OnceRoute)
Action = Literal["acknowledge", "resolve"]
_ACTIONS: dict[Action, Callable[..., None]] = {
    "acknowledge": commands.acknowledge_alert,
    "resolve": commands.resolve_alert,
}


@router.get("/alerts", response_model=Page[AlertView], responses=answers(401, 422))
def alerts(
    hub: HubDep,
    leave: Annotated[Leave, asks("alert.list")],
    state: Annotated[AlertState | None, Query()] = None,
    selector: SelectorText = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Alerts, the newest first."""
    chosen = leave.narrow(selector)
    with hub.store.read() as session:
        items = reading.alerts(
            session,
            leave.actor.scope,
            state=state,
            before=number(cursor),
            limit=limit + 1,
            selector=chosen,
        )
    return sent(page(items, limit, lambda item: item["id"]))


@router.get("/alerts/{alert}", response_model=AlertView, responses=answers(401, 403, 404))
def alert(
    hub: HubDep, leave: Annotated[Leave, asks("alert.read")], alert: Number, response: Response
) -> View:
    """One alert."""
    with hub.store.read() as session:
        return _view(session, leave, alert, response)


@router.post(
    "/alerts/{alert}/{action}",
    response_model=AlertView,
    responses=answers(401, 403, 404, 409, 412),
)
def act(
    hub: HubDep,
    leave: Annotated[Leave, asks("alert.acknowledge")],
    alert: Number,
    action: Action,
    response: Response,
    if_match: IfMatch = None,
) -> View:
    """Acknowledge an alert (somebody looks at it) or resolve it."""
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.alert(session, alert, change=True)
        etags.check(if_match, _tag(row.model_dump()))
        _ACTIONS[action](session, alert, by=leave.actor.name, now=now)
        log.append(
            session,
            actor=leave.actor.label,
            action=f"alert.{action}",
            subject=f"alert/{alert}",
            now=now,
        )
    hub.changed()
    with hub.store.read() as session:
        return _view(session, leave, alert, response)


def _view(session: Session, leave: Leave, alert: int, response: Response) -> View:
    found: View = reading.alert(leave.alert(session, alert))
    response.headers["ETag"] = _tag(found)
    return found


def _tag(found: View) -> str:
    return etags.tag(found["id"], found["state"])
