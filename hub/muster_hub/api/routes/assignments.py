"""Assignments: which version devices have in a slot, those that join later included."""

from typing import Annotated

from fastapi import APIRouter, Response

from muster_hub.access.leave import Leave
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.assignments import AssignmentAsk, AssignmentPlanView, AssignmentView
from muster_hub.audit import log
from muster_hub.fleet import assigning, reading
from muster_hub.storage.models import Assignment
from muster_protocol.wire import selectors

router = APIRouter(tags=["assignments"], route_class=OnceRoute)


@router.get("/assignments", responses=answers(401))
def assignments(
    hub: HubDep,
    leave: Annotated[Leave, asks("assignment.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AssignmentView]:
    """Assignments by id. A device gets, for each slot, the matching one of highest precedence."""
    with hub.store.read() as session:
        found = reading.assignments(
            session, leave.scope, after=number(cursor) or 0, limit=limit + 1
        )
    return Page(**page([_view(row) for row in found], limit, lambda item: item.id))


@router.get("/assignments/{assignment}", responses=answers(401, 403, 404))
def assignment(
    hub: HubDep,
    leave: Annotated[Leave, asks("assignment.read")],
    assignment: Number,
    response: Response,
) -> AssignmentView:
    """One assignment."""
    with hub.store.read() as session:
        row = leave.assignment(session, assignment)
    response.headers["ETag"] = _tag(row)
    return _view(row)


@router.put("/assignments", responses=answers(401, 403, 404, 409, 412))
def put(
    hub: HubDep,
    leave: Annotated[Leave, asks("assignment.put")],
    ask: AssignmentAsk,
    response: Response,
    if_match: IfMatch = None,
) -> AssignmentView:
    """Make or change the assignment of this slot and selector, at once for all its devices.

    A rollout does the same by stages and stops at the first harm: prefer that for anything new.
    Where two people are asked for, only a rollout brings devices another version.
    """
    leave.release(ask.model, ask.selector, "this selector")
    now = hub.clock()
    with hub.store.write() as session:
        before = assigning.get_by_key(session, ask.slot, str(selectors.parse(ask.selector)))
        if before is not None:
            leave.release(before.model, before.selector, f"assignment {before.id}")
            etags.check(if_match, _tag(before))
        if hub.config.governance.two_people:
            assigning.must_not_release(before, ask.model, ask.version, ask.precedence)
        was = None if before is None else f"{before.model}/{before.version}"
        row = assigning.put(session, **ask.model_dump(), now=now)
        log.append(
            session,
            actor=leave.actor.label,
            action="assignment.put",
            subject=f"assignment/{row.id}",
            now=now,
            before=was,
            **ask.model_dump(),
        )
    hub.changed()
    response.headers["ETag"] = _tag(row)
    return _view(row)


@router.post("/assignments/plan", responses=answers(401, 403, 404, 409, 422))
def plan(
    hub: HubDep, leave: Annotated[Leave, asks("assignment.put")], ask: AssignmentAsk
) -> AssignmentPlanView:
    """What making or changing this assignment would do; refused as that would be."""
    leave.release(ask.model, ask.selector, "this selector")
    now = hub.clock()
    with hub.store.read() as session:
        chosen = selectors.parse(ask.selector)
        before = assigning.get_by_key(session, ask.slot, str(chosen))
        if before is not None:
            leave.release(before.model, before.selector, f"assignment {before.id}")
        if hub.config.governance.two_people:
            assigning.must_not_release(before, ask.model, ask.version, ask.precedence)
        was = None if before is None else f"{before.model}/{before.version}"
        count = reading.count(session, chosen)
    assigning.rehearse(hub.store, **ask.model_dump(), now=now)
    return AssignmentPlanView(before=was, devices=count)


@router.delete("/assignments/{assignment}", status_code=204, responses=answers(401, 403, 404, 412))
def delete(
    hub: HubDep,
    leave: Annotated[Leave, asks("assignment.delete")],
    assignment: Number,
    if_match: IfMatch = None,
) -> None:
    """Withdraw an assignment. Devices then follow the next one that matches; a slot that none
    names any more keeps running what it runs."""
    with hub.store.write() as session:
        row = leave.assignment(session, assignment)
        etags.check(if_match, _tag(row))
        if hub.config.governance.two_people:
            assigning.must_leave_alone(session, row)
        session.delete(row)
        log.append(
            session,
            actor=leave.actor.label,
            action="assignment.delete",
            subject=f"assignment/{assignment}",
            now=hub.clock(),
            before=f"{row.model}/{row.version}",
            slot=row.slot,
            selector=row.selector,
        )
    hub.changed()


def _view(row: Assignment) -> AssignmentView:
    return AssignmentView(**row.model_dump())


def _tag(row: Assignment) -> str:
    return etags.tag(
        row.id, row.slot, row.selector, row.model, row.version, row.precedence, row.window_seconds
    )
