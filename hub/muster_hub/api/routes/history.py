"""What a model did over hours and days, on a device, on some, or on the whole fleet."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Page, SelectorText
from muster_hub.api.problems import answers
from muster_hub.api.schemas.drift import HistoryView
from muster_hub.errors import Invalid
from muster_hub.monitoring import history
from muster_hub.monitoring.rollup_step import DAY_SECONDS
from muster_hub.storage.models import RollupLevel

router = APIRouter(tags=["drift"], route_class=OnceRoute)

Days = Annotated[float, Query(gt=0, le=1000, description="How far back from ``until``.")]
Until = Annotated[float | None, Query(ge=0, le=1e11, description="Default: now.")]
DeviceName = Annotated[str | None, Query(max_length=64, examples=["cam-1"])]


@router.get("/models/{model}/history", responses=answers(401, 403, 404, 422))
def model_history(
    hub: HubDep,
    leave: Annotated[Leave, asks("history.read")],
    model: str,
    level: RollupLevel = "day",
    days: Days = 30.0,
    until: Until = None,
    device: DeviceName = None,
    selector: SelectorText = None,
) -> Page[HistoryView]:
    """Hours or days of a model, in order of time; an hour comes ten minutes after its end.

    Of one ``device``, of the devices that a ``selector`` matches now, or of the whole fleet.
    """
    leave.model(model)
    if device is not None and selector is not None:
        raise Invalid("ask for a device or for a selector, not for both")
    end = hub.clock() if until is None else until
    with hub.store.read() as session:
        if device is not None:
            leave.device(session, device)
            chosen = None
        else:
            chosen = leave.narrow(selector)
        found = history.read(
            session, hub.blobs.read, model=model, level=level, since=end - days * DAY_SECONDS,
            until=end, device=device, selector=chosen,
        )  # fmt: skip
    return Page(items=[HistoryView(**item) for item in found], next=None)
