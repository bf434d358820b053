"""Silences: alerts that are kept but not told for a while."""

from typing import Annotated

from fastapi import APIRouter
from sqlmodel import col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.silences import SilenceAsk, SilenceView
from muster_hub.audit import log
from muster_hub.storage.alerting import Silence
from muster_protocol.wire import selectors

router = APIRouter(tags=["alerts"], route_class=OnceRoute)


@router.get("/silences", responses=answers(401, 422))
def silences(
    hub: HubDep,
    leave: Annotated[Leave, asks("silence.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SilenceView]:
    """Silences that hold, the newest first, as far as they are within the asker's scope."""
    query = select(Silence).where(col(Silence.until) > hub.clock())
    if (before := number(cursor)) is not None:
        query = query.where(col(Silence.id) < before)
    scope = leave.scope
    with hub.store.read() as session:
        found = session.exec(query.order_by(col(Silence.id).desc()).limit(limit + 1)).all()
    listed = page([row.model_dump() for row in found], limit, lambda item: item["id"])
    listed["items"] = [item for item in listed["items"] if scope.covers(item["selector"])]
    return Page(**listed)


@router.post("/silences", status_code=201, responses=answers(401, 403, 422))
def silence(
    hub: HubDep, leave: Annotated[Leave, asks("silence.begin")], ask: SilenceAsk
) -> SilenceView:
    """Tell nobody of alerts of these devices for a while. They are opened and listed all the same;
    what still stands at the end is told then."""
    leave.selector(ask.selector, "this selector")
    now = hub.clock()
    row = Silence(
        selector=str(selectors.parse(ask.selector)),
        until=now + ask.seconds,
        reason=ask.reason,
        by=leave.actor.label,
        created=now,
    )
    with hub.store.write() as session:
        session.add(row)
        session.flush()
        log.append(
            session,
            actor=leave.actor.label,
            action="silence.begin",
            subject=f"silence/{row.id}",
            now=now,
            selector=row.selector,
            until=row.until,
            reason=row.reason,
        )
    return SilenceView(**row.model_dump())


@router.post("/silences/{silence}/end", responses=answers(401, 403, 404))
def end(hub: HubDep, leave: Annotated[Leave, asks("silence.end")], silence: Number) -> SilenceView:
    """End a silence now."""
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.silence(session, silence)
        if row.until > now:
            row.until = now
            session.add(row)
            log.append(
                session,
                actor=leave.actor.label,
                action="silence.end",
                subject=f"silence/{silence}",
                now=now,
            )
    hub.changed()
    return SilenceView(**row.model_dump())
