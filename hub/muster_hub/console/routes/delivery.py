"""How we are doing: delivery itself, over the last days."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.console.rendering import render
from muster_hub.metrics import delivery
from muster_hub.metrics.delivery import MONTH_DAYS

router = APIRouter(route_class=OnceRoute)
PERIODS = (7, 30, 90, 365)
ROWS = 100


@router.get("/delivery", dependencies=[asks("delivery.read")])
def page(
    request: Request,
    hub: HubDep,
    days: Annotated[float, Query(gt=0, le=366)] = MONTH_DAYS,
) -> Response:
    """Lead time, what was refused and taken back, how long that took, alerts, what was saved."""
    with hub.store.read() as session:
        found = delivery.read(
            session, hub.clock(), days, joules_per_byte=hub.config.telemetry.joules_per_byte
        )
    return render(
        request, "delivery.html", found=found, rows=found.releases[:ROWS], days=days,
        periods=PERIODS, joules_per_byte=hub.config.telemetry.joules_per_byte,
    )  # fmt: skip
