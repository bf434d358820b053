"""How delivery itself does: lead times, what was refused and taken back, alerts, bytes saved."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.delivery import DeliveryView, ReleaseStoryView
from muster_hub.metrics import delivery
from muster_hub.metrics.delivery import MONTH_DAYS

router = APIRouter(tags=["delivery"], route_class=OnceRoute)
Days = Annotated[float, Query(gt=0, le=366, description="How far back from now.")]


@router.get("/delivery", responses=answers(401, 403, 422), dependencies=[asks("delivery.read")])
def summary(hub: HubDep, days: Days = MONTH_DAYS) -> DeliveryView:
    """A period in numbers, over the whole fleet."""
    return DeliveryView(**_read(hub, days).summary())


@router.get("/releases", responses=answers(401, 403, 422), dependencies=[asks("delivery.read")])
def releases(hub: HubDep, days: Days = MONTH_DAYS) -> Page[ReleaseStoryView]:
    """What became of each version pushed in the period, the newest first."""
    items = [ReleaseStoryView(**vars(story)) for story in _read(hub, days).releases]
    return Page(items=items, next=None)


def _read(hub: HubDep, days: float) -> delivery.DeliveryReading:
    with hub.store.read() as session:
        return delivery.read(
            session, hub.clock(), days, joules_per_byte=hub.config.telemetry.joules_per_byte
        )
