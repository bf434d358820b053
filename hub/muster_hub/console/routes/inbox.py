"""What needs somebody: alerts that stand, grouped by what they are about; silences."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import NUMBER_MAX, Number
from muster_hub.api.routes import alerts as api
from muster_hub.api.routes import silences as silences_api
from muster_hub.api.schemas.silences import SECONDS_MAX, SilenceAsk
from muster_hub.console.rendering import may_do, redirect, render
from muster_hub.console.routes import loops
from muster_hub.errors import Invalid

router = APIRouter(route_class=OnceRoute)
ALERTS_MAX = 300
"""Of each state; the newest. Beyond that an inbox is read by nobody."""
GROUP_SHOWN = 12
TICKED_MAX = 200
RESOLVED_SHOWN = 30
HOURS_MAX = SECONDS_MAX / 3600
RANK = {"critical": 0, "warning": 1, "info": 2}
State = Literal["", "resolved"]
AlertNumber = Annotated[int, Query(ge=1, le=NUMBER_MAX)]


@router.get("/inbox")
def inbox(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("alert.list")], state: State = ""
) -> Response:
    """Alerts that stand, or those that were resolved last; and silences that hold."""
    chosen, scope = leave.narrow(None), leave.actor.scope
    with hub.store.read() as session:
        found: list[dict[str, Any]] = []
        for wanted in ("resolved",) if state == "resolved" else ("open", "acknowledged"):
            found += reading.alerts(
                session,
                scope,
                state=wanted,
                before=None,
                limit=RESOLVED_SHOWN if wanted == "resolved" else ALERTS_MAX,
                selector=chosen,
            )
        waiting = [] if state else loops.waiting(session, leave)
    silences = silences_api.silences(hub, leave, 100, None).items
    return render(
        request,
        "inbox.html",
        groups=grouped(found),
        state=state,
        total=len(found),
        silences=silences,
        loops=waiting,
        waits=loops.WAITS,
        group_shown=GROUP_SHOWN,
        may_act=may_do(leave.actor, "alert.acknowledge"),
        may_silence=may_do(leave.actor, "silence.begin"),
    )


@router.post("/inbox/{action}")
def act(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("alert.acknowledge")],
    action: api.Action,
    alert: Annotated[list[AlertNumber] | None, Form(max_length=TICKED_MAX)] = None,
) -> Response:
    """Acknowledge or resolve each alert that was ticked."""
    if not alert:
        raise Invalid("tick the alerts first")
    for number in alert:
        api.act(hub, leave, number, action, Response(), None)
    return redirect(request, "inbox")


@router.post("/silences")
def silence(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("silence.begin")],
    selector: Annotated[str, Form(max_length=1024)] = "",
    hours: Annotated[float, Form(gt=0, le=HOURS_MAX)] = 4.0,
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Tell nobody of alerts of these devices for some hours."""
    ask = SilenceAsk(selector=selector, seconds=hours * 3600, reason=reason)
    silences_api.silence(hub, leave, ask)
    return redirect(request, "inbox")


@router.post("/silences/{silence}/end")
def end(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("silence.end")], silence: Number
) -> Response:
    """End a silence now."""
    silences_api.end(hub, leave, silence)
    return redirect(request, "inbox")


def grouped(alerts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Alerts of one kind, model and cause together, the gravest and largest group first."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for item in alerts:
        detail = item["detail"]
        key = (item["kind"], str(detail.get("model") or ""), str(detail.get("cause") or ""))
        groups.setdefault(key, []).append(item)
    found = [
        {
            "kind": kind,
            "model": model,
            "cause": cause,
            "advice": items[0]["advice"],
            "severity": min((item["severity"] for item in items), key=lambda word: RANK[word]),
            "alerts": items,
        }
        for (kind, model, cause), items in groups.items()
    ]
    return sorted(found, key=lambda group: (RANK[group["severity"]], -len(group["alerts"])))
