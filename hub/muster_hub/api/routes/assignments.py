"""Assignments: which version devices have in a slot, those that join later included."""

from fastapi import APIRouter, Response

from muster_hub.api import etags
from muster_hub.api.auth import Actor, HubDep, Operator, Reader
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.assignments import AssignmentAsk, AssignmentView
from muster_hub.audit import log
from muster_hub.fleet import assigning, reading
from muster_hub.storage.models import Assignment
from muster_protocol.wire import selectors

router = APIRouter(tags=["assignments"], route_class=OnceRoute)


@router.get("/assignments", responses=answers(401))
def assignments(
    hub: HubDep, actor: Reader, limit: Limit = 100, cursor: Cursor = None
) -> Page[AssignmentView]:
    """Assignments by id. A device gets, for each slot, the matching one of highest precedence."""
    with hub.store.read() as session:
        found = reading.assignments(
            session, actor.scope, after=number(cursor) or 0, limit=limit + 1
        )
    return Page(**page([_view(row) for row in found], limit, lambda item: item.id))


@router.get("/assignments/{assignment}", responses=answers(401, 403, 404))
def assignment(
    hub: HubDep, actor: Reader, assignment: Number, response: Response
) -> AssignmentView:
    """One assignment."""
    with hub.store.read() as session:
        row = assigning.get(session, assignment)
    _must_have(actor, row)
    response.headers["ETag"] = _tag(row)
    return _view(row)


@router.put("/assignments", responses=answers(401, 403, 404, 409, 412))
def put(
    hub: HubDep, actor: Operator, ask: AssignmentAsk, response: Response, if_match: IfMatch = None
) -> AssignmentView:
    """Make or change the assignment of this slot and selector, at once for all its devices.

    A rollout does the same by stages and stops at the first harm: prefer that for anything new.
    """
    actor.must_have_model(ask.model)
    actor.must_cover(ask.selector, "this selector")
    now = hub.clock()
    with hub.store.write() as session:
        before = assigning.get_by_key(session, ask.slot, str(selectors.parse(ask.selector)))
        if before is not None:
            actor.must_have_model(before.model)
            etags.check(if_match, _tag(before))
        was = None if before is None else f"{before.model}/{before.version}"
        row = assigning.put(session, **ask.model_dump(), now=now)
        log.append(
            session,
            actor=actor.label,
            action="assignment.put",
            subject=f"assignment/{row.id}",
            now=now,
            before=was,
            **ask.model_dump(),
        )
    hub.changed()
    response.headers["ETag"] = _tag(row)
    return _view(row)


@router.delete("/assignments/{assignment}", status_code=204, responses=answers(401, 403, 404, 412))
def delete(hub: HubDep, actor: Operator, assignment: Number, if_match: IfMatch = None) -> None:
    """Withdraw an assignment. Devices then follow the next one that matches; a slot that none
    names any more keeps running what it runs."""
    with hub.store.write() as session:
        row = assigning.get(session, assignment)
        _must_have(actor, row)
        etags.check(if_match, _tag(row))
        session.delete(row)
        log.append(
            session,
            actor=actor.label,
            action="assignment.delete",
            subject=f"assignment/{assignment}",
            now=hub.clock(),
            before=f"{row.model}/{row.version}",
            slot=row.slot,
            selector=row.selector,
        )
    hub.changed()


def _must_have(actor: Actor, row: Assignment) -> None:
    actor.must_have_model(row.model)
    actor.must_cover(row.selector, f"assignment {row.id}")


def _view(row: Assignment) -> AssignmentView:
    return AssignmentView(**row.model_dump())


def _tag(row: Assignment) -> str:
    return etags.tag(
        row.id, row.slot, row.selector, row.model, row.version, row.precedence, row.window_seconds
    )
