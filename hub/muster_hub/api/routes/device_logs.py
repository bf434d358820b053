"""A device's log, for whoever can't stand before it."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import NUMBER_MAX, Limit
from muster_hub.api.problems import answers
from muster_hub.api.schemas.logs import LogAsked, LogLineView, LogView
from muster_hub.fleet import log_watching

router = APIRouter(tags=["devices"], route_class=OnceRoute)


@router.post("/devices/{device}/logs", status_code=202, responses=answers(401, 403, 404, 409))
def watch_log(
    hub: HubDep, leave: Annotated[Leave, asks("device.watch-log")], device: str
) -> LogAsked:
    """Have a device send its agent's log for two minutes, from its latest lines on.

    One that was asked within the last minute goes on sending and is not asked anew. Tokens and
    passwords are left out on the device; at most 10 lines a second come, and 300 for one request.
    """
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        request = log_watching.ask(session, row, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return LogAsked(device=device, request=request)


@router.get("/devices/{device}/logs", responses=answers(401, 403, 404))
def log(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.log")],
    device: str,
    after: Annotated[
        int, Query(ge=0, le=NUMBER_MAX, description="Number of the last line known; 0: none.")
    ] = 0,
    limit: Limit = 100,
) -> LogView:
    """What a device has sent of its log, the oldest first; lines are kept for a day."""
    with hub.store.read() as session:
        leave.device(session, device, whole=True)
        found = log_watching.lines(session, device, after, limit)
    return LogView(device=device, lines=[LogLineView(**line) for line in found])
