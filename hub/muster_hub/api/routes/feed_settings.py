"""What devices are told of their feeds beside their own configuration."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from sqlmodel import col, select

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Page, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.feed_settings import FeedSettingAsk, FeedSettingView
from muster_hub.fleet import feed_settings
from muster_hub.storage.feeds import FeedSettingRow

router = APIRouter(tags=["devices"], route_class=OnceRoute)
Name = Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


@router.get("/feed-settings", responses=answers(401))
def listed(
    hub: HubDep,
    leave: Annotated[Leave, asks("feed-setting.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[FeedSettingView]:
    """What is set, by name, as far as it is within the asker's scope."""
    covers = leave.scope.covers
    query = select(FeedSettingRow).where(col(FeedSettingRow.name) > (cursor or ""))
    with hub.store.read() as session:
        rows = session.exec(query.order_by(col(FeedSettingRow.name)).limit(feed_settings.NAMES_MAX))
        seen = [row for row in rows if covers(row.selector)][: limit + 1]
        found = feed_settings.views(session, seen)
    return Page(**page(found, limit, lambda item: item["name"]))


@router.put("/feed-settings/{name}", responses=answers(401, 403, 409, 422))
def put(
    hub: HubDep, leave: Annotated[Leave, asks("feed-setting.put")], name: Name, ask: FeedSettingAsk
) -> FeedSettingView:
    """Set values of a feed on the devices that a selector matches, by their directives.

    A device takes what `hub_may_set` in its `agent.toml` opens, and says of the rest why not. Where
    two settings give the same value, the one with the later name counts.
    """
    leave.selector(ask.selector, "this selector")
    with hub.store.write() as session:
        before = session.get(FeedSettingRow, name)
        if before is not None:
            leave.selector(before.selector, "this feed setting")
        row = feed_settings.put(
            session,
            name=name,
            selector=ask.selector,
            feed=ask.feed,
            settings=ask.settings,
            by=leave.actor.label,
            now=hub.clock(),
        )
        found = FeedSettingView(**feed_settings.view(session, row))
    hub.changed()
    return found


@router.post("/feed-settings/{name}/plan", responses=answers(401, 403, 409, 422))
def plan(
    hub: HubDep, leave: Annotated[Leave, asks("feed-setting.put")], name: Name, ask: FeedSettingAsk
) -> FeedSettingView:
    """What setting these values would do; refused as that would be."""
    leave.selector(ask.selector, "this selector")
    with hub.store.read() as session:
        before = session.get(FeedSettingRow, name)
        if before is not None:
            leave.selector(before.selector, "this feed setting")
        row = feed_settings.plan(
            session,
            name=name,
            selector=ask.selector,
            feed=ask.feed,
            settings=ask.settings,
            by=leave.actor.label,
            now=hub.clock(),
        )
        return FeedSettingView(**feed_settings.view(session, row))


@router.delete("/feed-settings/{name}", status_code=204, responses=answers(401, 403, 404))
def delete(
    hub: HubDep, leave: Annotated[Leave, asks("feed-setting.delete")], name: Name
) -> Response:
    """Let the devices' own configuration count again."""
    with hub.store.write() as session:
        leave.selector(feed_settings.find(session, name).selector, "this feed setting")
        feed_settings.remove(session, name, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return Response(status_code=204)
