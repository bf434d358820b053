"""Rollouts: starting them, watching them, holding and ending them."""

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter

from muster_hub import audit, queries
from muster_hub.api.auth import Actor, HubDep, Operator, Reader
from muster_hub.api.pages import Cursor, Limit, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas import RolloutAsk, View
from muster_hub.engine import commands
from muster_hub.errors import NotFound

router = APIRouter(tags=["rollouts"])
Action = Literal["pause", "resume", "abort"]
_ACTIONS: dict[Action, Callable[..., None]] = {
    "pause": commands.pause_rollout,
    "resume": commands.resume_rollout,
    "abort": commands.abort_rollout,
}


@router.post("/rollouts", status_code=201, responses=answers(401, 403, 404, 409, 422))
def start(hub: HubDep, actor: Operator, ask: RolloutAsk) -> View:
    """Bring a published version to the devices a selector matches, a canary first."""
    plan: dict[str, Any] = ask.model_dump()
    now = hub.clock()
    with hub.store.write() as session:
        number_ = commands.start_rollout(session, **plan, by=actor.name, now=now)
        _record(session, actor, "rollout.start", number_, now, plan=plan)
    hub.changed()
    return _view(hub, number_)


@router.get("/rollouts", responses=answers(401))
def rollouts(hub: HubDep, _: Reader, limit: Limit = 100, cursor: Cursor = None) -> Page[View]:
    """Rollouts, the newest first."""
    with hub.store.read() as session:
        items = queries.rollouts(session, before=number(cursor), limit=limit + 1)
    return Page(**page(items, limit, lambda item: item["id"]))


@router.get("/rollouts/{rollout}", responses=answers(401, 404))
def rollout(hub: HubDep, _: Reader, rollout: int) -> View:
    """A rollout by wave and device, and the reason for its state in words."""
    return _view(hub, rollout)


@router.post("/rollouts/{rollout}/{action}", responses=answers(401, 403, 404, 409))
def act(hub: HubDep, actor: Operator, rollout: int, action: Action) -> View:
    """Pause (no further device), resume, or abort (devices go back to what they had)."""
    now = hub.clock()
    with hub.store.write() as session:
        _ACTIONS[action](session, rollout, by=actor.name, now=now)
        _record(session, actor, f"rollout.{action}", rollout, now)
    hub.changed()
    return _view(hub, rollout)


def _record(
    session: Any, actor: Actor, action: str, rollout: int, now: float, **detail: Any
) -> None:
    subject = f"rollout/{rollout}"
    audit.append(session, actor=actor.label, action=action, subject=subject, now=now, **detail)


def _view(hub: HubDep, rollout: int) -> View:
    with hub.store.read() as session:
        found = queries.rollout(session, rollout, hub.clock())
    if found is None:
        raise NotFound(f"there is no rollout {rollout}")
    return found
