"""What is done with a device: asked about with what it changes, then done as by the API."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import devices as api
from muster_hub.api.schemas.devices import Retry
from muster_hub.console.rendering import redirect, render
from muster_hub.fleet import reading

router = APIRouter(route_class=OnceRoute)
Action = Literal["approve", "retry", "revoke"]


@router.get("/devices/{device}/{action}")
def question(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.read")],
    device: str,
    action: Action,
) -> Response:
    """What an act would change, before it is done."""
    with hub.store.read() as session:
        leave.device(session, device)
        found = reading.device(session, leave.actor.scope, device, hub.clock())
    return render(request, "device_question.html", device=found, action=action)


@router.post("/devices/{device}/approve")
def approve(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.approve")], device: str
) -> Response:
    """Let it have something to run."""
    api.approve(hub, leave, device, Response())
    return redirect(request, f"devices/{device}")


@router.post("/devices/{device}/retry")
def retry(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.retry")], device: str
) -> Response:
    """Have it try anew what it refused."""
    api.retry(hub, leave, device, Retry())
    return redirect(request, f"devices/{device}")


@router.post("/devices/{device}/diagnose")
def diagnose(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.diagnose")], device: str
) -> Response:
    """Ask what is wrong on it: nothing there changes, so nobody is asked about it first."""
    api.diagnose(hub, leave, device)
    return redirect(request, f"devices/{device}")


@router.post("/devices/{device}/revoke")
def revoke(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.revoke")], device: str
) -> Response:
    """Take it out for good."""
    api.revoke(hub, leave, device, Response())
    return redirect(request, f"devices/{device}")
