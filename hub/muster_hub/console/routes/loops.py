"""Loops: from drift over a training to a better model, and the acts of people on them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session, col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import NUMBER_MAX, Number
from muster_hub.api.routes import loops as api
from muster_hub.api.schemas.loops import LoopAsk, LoopEnd
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.settings.loop import LoopState
from muster_hub.storage.models import Version
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sampling import SamplingPolicyRow

router = APIRouter(route_class=OnceRoute)
ROWS = 30
POLICIES_SHOWN = 10
WAITS: Mapping[LoopState, str] = {
    "wanted": "somebody who approves the training",
    "training": "the candidate, which the pipeline pushes and names",
    "checking": "the hub's check, and the gates of the model's policy",
    "signing": "the release keys: people sign the candidate off-line",
    "rollout": "a rollout of the candidate, which somebody starts",
}
"""Of each open state."""
Reason = Annotated[str, Form(max_length=500)]


@router.get("/loops")
def loops(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("loop.list")],
    before: Annotated[int | None, Query(ge=1, le=NUMBER_MAX)] = None,
) -> Response:
    """Loops, the newest first."""
    found = api.list_loops(hub, leave, ROWS, None if before is None else str(before))
    scope = leave.actor.scope
    return render(
        request,
        "loops.html",
        rows=found.items,
        following=found.next,
        before=before,
        waits=WAITS,
        models=[terms.model for terms in hub.config.loops if scope.has_model(terms.model)]
        if may_do(leave.actor, "loop.start")
        else [],
    )


@router.post("/loops")
def start(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("loop.start")],
    model: Annotated[str, Form(min_length=1, max_length=64)],
    reason: Reason = "",
) -> Response:
    """Open one by hand, then show it."""
    made = api.start_loop(hub, leave, LoopAsk(model=model, reason=reason))
    return redirect(request, f"loops/{made.id}")


@router.get("/loops/{loop}")
def loop(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("loop.read")], loop: Number
) -> Response:
    """One loop: what it waits for, what opened it, and each state it entered."""
    found = api.show_loop(hub, leave, loop)
    with hub.store.read() as session:
        version = session.get(Version, (found.model, found.version)) if found.version else None
        policies = _policies(session, leave, found.model, found.opened)
    gates: list[dict[str, Any]] = [] if version is None else version.check.get("gates", [])
    return render(
        request,
        "loop.html",
        row=found,
        waits=WAITS,
        version=version,
        gates=gates,
        policies=policies,
        may_approve=found.state == "wanted" and may_do(leave.actor, "loop.approve"),
        may_abandon=found.ended is None and may_do(leave.actor, "loop.abandon"),
    )


@router.post("/loops/{loop}/approve")
def approve(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("loop.approve")], loop: Number
) -> Response:
    """Let the training start."""
    api.approve_loop(hub, leave, loop)
    return redirect(request, f"loops/{loop}")


@router.get("/loops/{loop}/abandon")
def question(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("loop.abandon")], loop: Number
) -> Response:
    """What ending it means, before it is done."""
    return render(request, "loop_question.html", row=api.show_loop(hub, leave, loop), waits=WAITS)


@router.post("/loops/{loop}/abandon")
def abandon(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("loop.abandon")],
    loop: Number,
    reason: Reason = "",
) -> Response:
    """End it, then show it."""
    api.abandon_loop(hub, leave, loop, LoopEnd(reason=reason))
    return redirect(request, f"loops/{loop}")


def waiting(session: Session, leave: Leave) -> list[LoopRow]:
    """Open loops that wait for a person, the oldest first."""
    query = select(LoopRow).where(
        col(LoopRow.ended).is_(None), col(LoopRow.state).in_(("wanted", "signing", "rollout"))
    )
    scope = leave.actor.scope
    rows = session.exec(query.order_by(col(LoopRow.id))).all()
    return [row for row in rows if scope.has_model(row.model)]


def _policies(session: Session, leave: Leave, model: str, since: float) -> list[SamplingPolicyRow]:
    """Policies by which rows came for it, as far as somebody may see them."""
    query = select(SamplingPolicyRow).where(
        SamplingPolicyRow.model == model, col(SamplingPolicyRow.created) >= since
    )
    rows = session.exec(query.order_by(col(SamplingPolicyRow.id)).limit(POLICIES_SHOWN)).all()
    return [row for row in rows if leave.actor.scope.covers(row.selector)]
