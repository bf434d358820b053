"""Rollouts: what each does and waits for, its gate's evidence, and the acts on it."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session, col, select
from starlette.concurrency import run_in_threadpool

from muster_hub.access.leave import Leave
from muster_hub.access.scope import Scope
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Number
from muster_hub.api.routes import rollouts as api
from muster_hub.console import forms
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.errors import HubError
from muster_hub.registry.reading import versions
from muster_hub.rollouts import reading
from muster_hub.rollouts.commands import LIVE, RELEASED
from muster_hub.rollouts.plan import read_plan, stages
from muster_hub.storage.models import Model
from muster_protocol.wire.errors import MusterError

router = APIRouter(route_class=OnceRoute)
NOT_JUDGED: dict[str, Any] = {"look": 0, "action": "wait", "reason": ""}
ROWS = 30
DEVICES_SHOWN = 200
NAMES_SHOWN = 20
HISTORY_SHOWN = 40
Asked = Literal["approve", "advance", "abort", "rollback"]
"""Acts that are asked about with what they reach; ``pause`` and ``resume`` need no question."""


@router.get("/rollouts")
def rollouts(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.list")],
    before: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None,
) -> Response:
    """Rollouts, the newest first."""
    with hub.store.read() as session:
        found = reading.rollouts(session, leave.scope, before=before, limit=ROWS + 1)
    for item in found:
        item["stages"] = [stage.name for stage in stages(read_plan(item["plan"]))]
    return render(
        request,
        "rollouts.html",
        rows=found[:ROWS],
        following=found[ROWS - 1]["id"] if len(found) > ROWS else None,
        before=before,
    )


@router.get("/rollouts/new")
def new(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.start")],
    model: Annotated[str, Query(max_length=64)] = "",
    version: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The form that starts a rollout."""
    leave.on_list()
    fields = {**forms.ROLLOUT, "model": model, "version": version}
    return _form(request, hub, leave, fields)


@router.post("/rollouts/new")
async def plan(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("rollout.start")]
) -> Response:
    """The same page with what starting it would do, or what stands against it."""
    leave.on_list()
    fields = await _fields(request)
    return await run_in_threadpool(_rehearsed, request, hub, leave, fields)


@router.post("/rollouts")
async def start(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("rollout.start")]
) -> Response:
    """Start it, then show it."""
    leave.on_list()
    fields = await _fields(request)
    return await run_in_threadpool(_started, request, hub, leave, fields)


@router.get("/rollouts/{rollout}")
def rollout(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("rollout.read")], rollout: Number
) -> Response:
    """One rollout's page."""
    with hub.store.read() as session:
        row = leave.rollout(session, rollout)
        found = reading.rollout(session, rollout, hub.clock(), devices_max=DEVICES_SHOWN)
    assert found is not None
    return render(
        request,
        "rollout.html",
        rollout=found,
        tag=api.tag_of(row),
        stages=stages(read_plan(row.plan)),
        plan=msgspec.to_builtins(read_plan(row.plan)),
        pictures=(found["judged"] or {}).get("pictures") or [],
        judged=NOT_JUDGED | (found["judged"] or {}),
        acts=_acts(found, stages(read_plan(row.plan))),
        may_act=may_do(leave.actor, "rollout.act"),
        devices_shown=DEVICES_SHOWN,
        reached=sum(sum(wave["counts"].values()) for wave in found["waves"]),
        history=found["history"][-HISTORY_SHOWN:][::-1],
        permits=[item for item in found["permits"] if item["given_at"] is not None],
        refused=[item for item in found["permits"] if item["given_at"] is None],
        two_people=hub.config.governance.two_people,
    )


@router.get("/rollouts/{rollout}/{action}")
def question(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.act")],
    rollout: Number,
    action: Asked,
) -> Response:
    """What an act would reach, before it is done."""
    with hub.store.read() as session:
        row = leave.rollout(session, rollout)
        count, names = reading.still_on(session, rollout, limit=NAMES_SHOWN)
    return render(
        request,
        "rollout_question.html",
        rollout=row,
        action=action,
        tag=api.tag_of(row),
        reached=count,
        names=names,
        stages=stages(read_plan(row.plan)),
    )


@router.post("/rollouts/{rollout}/{action}")
def act(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("rollout.act")],
    rollout: Number,
    action: api.Action,
    tag: Annotated[str, Form(max_length=80)],
) -> Response:
    """Do it, as the API does, unless somebody was faster; then show the rollout."""
    api.act(hub, leave, rollout, action, Response(), tag)
    return redirect(request, f"rollouts/{rollout}")


async def _fields(request: Request) -> dict[str, str]:
    form = await request.form()
    return {name: str(form.get(name, ""))[:1024] for name in forms.ROLLOUT}


def _rehearsed(request: Request, hub: Hub, leave: Leave, fields: dict[str, str]) -> Response:
    try:
        found = api.plan(hub, leave, forms.rollout(fields))
    except MusterError as error:
        return _refused(request, hub, leave, fields, error)
    return _form(request, hub, leave, fields, found=found.model_dump())


def _started(request: Request, hub: Hub, leave: Leave, fields: dict[str, str]) -> Response:
    try:
        made = api.start(hub, leave, forms.rollout(fields), Response())
    except MusterError as error:
        return _refused(request, hub, leave, fields, error)
    return redirect(request, f"rollouts/{made['id']}")


def _refused(
    request: Request, hub: Hub, leave: Leave, fields: dict[str, str], error: MusterError
) -> Response:
    """The form again with what is wrong; who may not do it at all meets the door."""
    status = error.status if isinstance(error, HubError) else 422
    if status == 403:
        raise error
    return _form(request, hub, leave, fields, fault=str(error), status=status)


def _form(
    request: Request,
    hub: Hub,
    leave: Leave,
    fields: dict[str, str],
    *,
    found: dict[str, Any] | None = None,
    fault: str = "",
    status: int = 200,
) -> Response:
    with hub.store.read() as session:
        choices = _released(session, leave.actor.scope)
    return render(
        request,
        "rollout_new.html",
        status=status,
        fields=fields,
        found=found,
        fault=fault,
        choices=choices,
        two_people=hub.config.governance.two_people,
        most=max((wave["count"] for wave in found["waves"]), default=1) if found else 1,
    )


def _released(session: Session, scope: Scope) -> list[tuple[str, str]]:
    """Versions that can be rolled out, by model, the newest first."""
    names = [name for name in session.exec(select(Model.name).order_by(col(Model.name)))
             if scope.has_model(name)]  # fmt: skip
    found = versions(session, names)
    return [
        (name, item["version"])
        for name in names
        for item in found.get(name, ())
        if item["status"] in RELEASED
    ]


def _acts(found: dict[str, Any], planned: tuple[Any, ...]) -> list[str]:
    """Acts that mean something in a rollout's state."""
    if found["state"] == "completed":
        return ["rollback"]
    if found["state"] not in LIVE:
        return []
    acts = ["pause" if found["state"] == "running" else "resume"]
    wave = found["wave"]
    if wave < len(planned) and planned[wave].approve and found["approved"] < wave:
        acts.append("approve")
    watching = found["shadow"] is not None and found["shadow"]["action"] == "wait"
    if watching or found["advanced"] < wave:
        acts.append("advance")
    return [*acts, "abort", "rollback"]
