"""What the hub sets of feeds; and one feed of a device, live while somebody watches."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor
from muster_hub.api.routes import devices as api
from muster_hub.api.routes import feed_settings
from muster_hub.console.rendering import redirect, render
from muster_hub.console.words import segment

router = APIRouter(route_class=OnceRoute)
ROWS = 30


@router.get("/feeds")
def settings(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("feed-setting.list")],
    after: Cursor = None,
) -> Response:
    """What devices are told of their feeds beside their own configuration."""
    found = feed_settings.listed(hub, leave, ROWS, after)
    return render(request, "feeds.html", rows=found.items, following=found.next, after=after)


@router.get("/devices/{device}/feeds/{feed}")
def feed(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.feeds")],
    device: str,
    feed: str,
) -> Response:
    """What the device told last of one feed."""
    found = api.feeds(hub, leave, device)
    lag = 0.0 if found.received is None else max(hub.clock() - found.received, 0.0)
    return render(request, "feed.html", name=feed, found=found, feed=found.feeds.get(feed), lag=lag)


@router.post("/devices/{device}/feeds")
def watch(
    request: Request, hub: HubDep, leave: Annotated[Leave, asks("device.watch-feeds")], device: str
) -> Response:
    """Have the device tell of its feeds; which there are, its page shows."""
    api.watch_feeds(hub, leave, device)
    return redirect(request, f"devices/{segment(device)}")


@router.post("/devices/{device}/feeds/{feed}")
def watch_one(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.watch-feeds")],
    device: str,
    feed: str,
) -> Response:
    """The same, and back to this feed."""
    api.watch_feeds(hub, leave, device)
    return redirect(request, f"devices/{segment(device)}/feeds/{segment(feed)}")
