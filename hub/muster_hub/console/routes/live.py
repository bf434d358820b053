"""That something happened, as it happens: what has pages fetch themselves anew."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import events

router = APIRouter(route_class=OnceRoute)


@router.get("/live")
async def live(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("event.follow")],
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """The API's event stream, for who is signed in with a session."""
    return await events.stream(request, hub, leave, last_event_id, None)
