"""What happened: history page by page, and live as server-sent events."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import func
from sqlmodel import select
from starlette.concurrency import run_in_threadpool

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks, still_holds
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import NUMBER_MAX, Cursor, Limit, Page, SelectorText, number, page, sent
from muster_hub.api.problems import answers
from muster_hub.api.schemas.base import View
from muster_hub.api.schemas.events import EventView
from muster_hub.errors import TooMany
from muster_hub.fleet import reading
from muster_hub.storage.models import EventRow

router = APIRouter(tags=["events"], route_class=OnceRoute)

POLL_SECONDS = 0.3
KEEPALIVE_SECONDS = 15.0
RECHECK_SECONDS = 1.0
"""How long a stream goes on at most after its token was revoked or its scope changed."""
BATCH_EVENTS = 200
STREAMS_MAX = 64
_random = random.SystemRandom()


@router.get("/events", response_model=Page[EventView], responses=answers(401, 422))
def events(
    hub: HubDep,
    leave: Annotated[Leave, asks("event.list")],
    after: Annotated[int, Query(ge=0, le=NUMBER_MAX, description="Events with a higher id.")] = 0,
    selector: SelectorText = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Events of devices and hub, the oldest first."""
    start = max(after, number(cursor) or 0)
    chosen = leave.narrow(selector)
    with hub.store.read() as session:
        items = reading.events(
            session, leave.actor.scope, after=start, limit=limit + 1, selector=chosen
        )
    return sent(page(items, limit, lambda item: item["id"]))


@router.get(
    "/events/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **answers(401, 429)},
)
async def stream(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("event.follow")],
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    selector: SelectorText = None,
) -> StreamingResponse:
    """Events as they happen; `Last-Event-ID` resumes after the last one seen."""
    state = request.app.state
    if state.streams >= STREAMS_MAX:
        raise TooMany(f"{STREAMS_MAX} event streams are open already")
    chosen = leave.narrow(selector)
    after = number(last_event_id)
    if after is None:
        after = await run_in_threadpool(_latest, hub)
    return StreamingResponse(
        _follow(request, hub, leave, after, chosen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(
    request: Request, hub: Hub, leave: Leave, after: int, selector: str
) -> AsyncIterator[bytes]:
    """Events after an id until the client leaves, may see them no more, or the hub stops."""
    state = request.app.state
    state.streams += 1
    silent, asked = 0.0, RECHECK_SECONDS
    try:
        yield b": muster events\n\n"
        while not hub.stopping.is_set() and not await request.is_disconnected():
            if asked >= RECHECK_SECONDS:
                asked = 0.0
                if not await run_in_threadpool(still_holds, request, leave):
                    yield b": who follows is let in no longer, or not as before\n\n"
                    return
            batch = await run_in_threadpool(_after, hub, leave, after, selector)
            for item in batch:
                after = item["id"]
                yield _frame(item)
            if batch:
                silent = 0.0
                asked += POLL_SECONDS
                continue
            pause = POLL_SECONDS * _random.uniform(0.8, 1.2)
            await asyncio.sleep(pause)  # jittered: followers don't ask together
            silent += pause
            asked += pause
            if silent >= KEEPALIVE_SECONDS:
                silent = 0.0
                yield b": still here\n\n"
    finally:
        state.streams -= 1


def _frame(item: View) -> bytes:
    data = msgspec.json.encode(item)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (item["id"], str(item["kind"]).encode(), data)


def _after(hub: Hub, leave: Leave, after: int, selector: str) -> list[View]:
    with hub.store.read() as session:
        return reading.events(
            session, leave.actor.scope, after=after, limit=BATCH_EVENTS, selector=selector
        )


def _latest(hub: Hub) -> int:
    with hub.store.read() as session:
        return session.exec(select(func.max(EventRow.id))).one() or 0
