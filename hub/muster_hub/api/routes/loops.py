"""Loops: from drift over a training to a better model, with what people must agree to."""

from typing import Annotated

from fastapi import APIRouter
from sqlmodel import Session, col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.loops import LoopAsk, LoopCandidate, LoopEnd, LoopView
from muster_hub.errors import Invalid
from muster_hub.loop import loops
from muster_hub.storage.registry import LoopRow

router = APIRouter(tags=["loops"], route_class=OnceRoute)


@router.get("/loops", responses=answers(401, 403))
def list_loops(
    hub: HubDep,
    leave: Annotated[Leave, asks("loop.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[LoopView]:
    """Loops, the newest first."""
    scope = leave.scope
    query = select(LoopRow).order_by(col(LoopRow.id).desc())
    if cursor:
        if not cursor.isdecimal():
            raise Invalid("cursor: pass what `next` said")
        query = query.where(col(LoopRow.id) < int(cursor))
    if not scope.models:
        query = query.limit(limit + 1)
    with hub.store.read() as session:
        rows = session.exec(query).all()
    found = [_view(leave, row) for row in rows if scope.has_model(row.model)][: limit + 1]
    return Page(**page(found, limit, lambda item: str(item.id)))


@router.post("/loops", status_code=201, responses=answers(401, 403, 404, 409))
def start_loop(hub: HubDep, leave: Annotated[Leave, asks("loop.start")], ask: LoopAsk) -> LoopView:
    """Open a loop by hand, without drift. Budget, cool-down and approval count all the same."""
    leave.model(ask.model)
    with hub.store.write() as session:
        terms = loops.terms_of(hub.config.loops, ask.model)
        by, now = leave.actor.label, hub.clock()
        view = _view(leave, loops.start(session, terms, reason=ask.reason, by=by, now=now))
    hub.changed()
    return view


@router.get("/loops/{loop}", responses=answers(401, 403, 404))
def show_loop(hub: HubDep, leave: Annotated[Leave, asks("loop.read")], loop: Number) -> LoopView:
    """One loop, with each state it entered and why."""
    with hub.store.read() as session:
        return _view(leave, _of(session, leave, loop))


@router.post("/loops/{loop}/approve", responses=answers(401, 403, 404, 409))
def approve_loop(
    hub: HubDep, leave: Annotated[Leave, asks("loop.approve")], loop: Number
) -> LoopView:
    """Let the training start."""
    with hub.store.write() as session:
        row = _of(session, leave, loop)
        loops.approve(session, row, leave.actor.label, hub.clock())
        view = _view(leave, row)
    hub.changed()
    return view


@router.post("/loops/{loop}/abandon", responses=answers(401, 403, 404, 409))
def abandon_loop(
    hub: HubDep, leave: Annotated[Leave, asks("loop.abandon")], loop: Number, ask: LoopEnd
) -> LoopView:
    """End a loop. What the orchestrator runs is not stopped."""
    with hub.store.write() as session:
        row = _of(session, leave, loop)
        loops.abandon(session, row, leave.actor.label, ask.reason, hub.clock())
        return _view(leave, row)


@router.post("/loops/{loop}/candidate", responses=answers(401, 403, 404, 409))
def name_candidate(
    hub: HubDep, leave: Annotated[Leave, asks("loop.candidate")], loop: Number, ask: LoopCandidate
) -> LoopView:
    """Say which version the training made: the pipeline's last step, after its push."""
    with hub.store.write() as session:
        row = _of(session, leave, loop)
        loops.name_candidate(session, row, ask.version, leave.actor.label, hub.clock())
        view = _view(leave, row)
    hub.changed()
    return view


def _of(session: Session, leave: Leave, loop: int) -> LoopRow:
    row = loops.find(session, loop)
    leave.model(row.model)
    return row


def _view(leave: Leave, row: LoopRow) -> LoopView:
    return LoopView.of(row, limited=bool(leave.actor.scope.selector.parts))
