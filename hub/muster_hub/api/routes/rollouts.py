"""Rollouts: starting them, watching them, holding and ending them."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from sqlmodel import Session

from muster_hub.access import people
from muster_hub.access.leave import Leave
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, number, page, sent
from muster_hub.api.problems import answers
from muster_hub.api.schemas.base import View
from muster_hub.api.schemas.rollouts import RolloutAsk, RolloutPlanView, RolloutSummary, RolloutView
from muster_hub.audit import log
from muster_hub.rollouts import commands, reading, rehearsal
from muster_hub.storage.models import Rollout

router = APIRouter(tags=["rollouts"], route_class=OnceRoute)
Action = Literal["pause", "resume", "abort", "approve", "advance", "rollback"]
_ACTIONS: dict[Action, Callable[..., None]] = {
    "pause": commands.pause_rollout,
    "resume": commands.resume_rollout,
    "abort": commands.abort_rollout,
    "approve": commands.approve_rollout,
    "advance": commands.advance_rollout,
    "rollback": commands.rollback_rollout,
}
_SECOND_PERSON = frozenset({"approve", "advance"})


@router.post(
    "/rollouts",
    status_code=201,
    response_model=RolloutView,
    responses=answers(401, 403, 404, 409, 422),
)
def start(
    hub: HubDep, leave: Annotated[Leave, asks("rollout.start")], ask: RolloutAsk, response: Response
) -> View:
    """Bring a published version to the devices a selector matches, a canary first.

    For who is limited to some devices the selector is narrowed to those.
    """
    plan = _plan(hub, leave, ask)
    now = hub.clock()
    with hub.store.write() as session:
        number_ = commands.start_rollout(session, **plan, by=leave.actor.name, now=now)
        _record(session, leave, "rollout.start", number_, now, plan=plan)
    hub.changed()
    return _view(hub, leave, number_, response)


@router.post("/rollouts/plan", responses=answers(401, 403, 404, 409, 422))
def plan(
    hub: HubDep, leave: Annotated[Leave, asks("rollout.start")], ask: RolloutAsk
) -> RolloutPlanView:
    """What starting this would do: who, in which wave, how many bytes, what limits it.

    Nothing is started; what would be refused is refused alike.
    """
    asked = _plan(hub, leave, ask)
    found = rehearsal.rehearse(hub.store, hub.blobs, asked, by=leave.actor.name, now=hub.clock())
    return RolloutPlanView(**found)


@router.get("/rollouts", response_model=Page[RolloutSummary], responses=answers(401))
def rollouts(
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Rollouts, the newest first."""
    with hub.store.read() as session:
        items = reading.rollouts(session, leave.scope, before=number(cursor), limit=limit + 1)
    return sent(page(items, limit, lambda item: item["id"]))


@router.get("/rollouts/{rollout}", response_model=RolloutView, responses=answers(401, 403, 404))
def rollout(
    hub: HubDep, leave: Annotated[Leave, asks("rollout.read")], rollout: Number, response: Response
) -> View:
    """A rollout by wave and device, and the reason for its state in words."""
    return _view(hub, leave, rollout, response)


@router.post(
    "/rollouts/{rollout}/{action}",
    response_model=RolloutView,
    responses=answers(401, 403, 404, 409, 412),
)
def act(
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.act")],
    rollout: Number,
    action: Action,
    response: Response,
    if_match: IfMatch = None,
) -> View:
    """Pause (no further device), resume, abort (devices go back to what they had), approve the
    wave that waits for it, advance (pass the present wave by hand), or roll back.

    Where two people are asked for, who started it can neither approve nor advance it.
    """
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.rollout(session, rollout)
        etags.check(if_match, tag_of(row))
        if action in _SECOND_PERSON and hub.config.governance.two_people:
            did = f"started rollout {rollout}"
            people.must_be_another(session, row.created_by, leave.actor.label, did)
        _ACTIONS[action](session, rollout, by=leave.actor.name, now=now)
        _record(session, leave, f"rollout.{action}", rollout, now)
    hub.changed()
    return _view(hub, leave, rollout, response)


def _record(
    session: Session, leave: Leave, action: str, rollout: int, now: float, **detail: Any
) -> None:
    subject = f"rollout/{rollout}"
    log.append(session, actor=leave.actor.label, action=action, subject=subject, now=now, **detail)


def _plan(hub: HubDep, leave: Leave, ask: RolloutAsk) -> dict[str, Any]:
    """What was asked for, within the asker's scope and with the second person's say."""
    plan: dict[str, Any] = ask.model_dump(exclude_none=True)
    plan["selector"] = leave.actor.scope.narrow(ask.selector)
    leave.release(ask.model, plan["selector"], "this rollout")
    if hub.config.governance.two_people:
        plan["approve_start"] = True
    return plan


def _view(hub: HubDep, leave: Leave, rollout: int, response: Response) -> View:
    with hub.store.read() as session:
        row = leave.rollout(session, rollout)
        found = reading.rollout(session, rollout, hub.clock())
    assert found is not None
    response.headers["ETag"] = tag_of(row)
    return found


def tag_of(row: Rollout) -> str:
    """The tag of a rollout as it stands: a change with another is refused."""
    return etags.tag(row.id, row.state, row.wave, row.approved, row.advanced)
