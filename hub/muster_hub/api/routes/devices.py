"""Devices: what they are, what they report, and taking them out."""

from typing import Annotated

from fastapi import APIRouter, Query

from muster_hub import audit, enrolment, queries
from muster_hub.api.auth import HubDep, Operator, Reader
from muster_hub.api.pages import Cursor, Limit, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas import LabelsPatch, View
from muster_hub.db.models import Device
from muster_hub.errors import NotFound

router = APIRouter(tags=["devices"])

Selector = Annotated[str | None, Query(max_length=1024, examples=["site=berlin,line in (1,2)"])]
ModelName = Annotated[str | None, Query(max_length=64, examples=["digits"])]


@router.get("/devices", responses=answers(401, 422))
def devices(
    hub: HubDep, _: Reader, selector: Selector = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[View]:
    """Devices by id, each with its latest report."""
    with hub.store.read() as session:
        items = queries.devices(
            session, selector=selector, after=cursor or "", limit=limit + 1, now=hub.clock()
        )
    return Page(**page(items, limit, lambda item: item["id"]))


@router.get("/devices/{device}", responses=answers(401, 404))
def device(hub: HubDep, _: Reader, device: str) -> View:
    """One device with its latest report."""
    with hub.store.read() as session:
        found = queries.device(session, device, hub.clock())
    if found is None:
        raise NotFound(f"there is no device {device!r}")
    return found


@router.patch("/devices/{device}", responses=answers(401, 403, 404, 422))
def relabel(hub: HubDep, actor: Operator, device: str, patch: LabelsPatch) -> View:
    """Replace a device's labels; assignments that match them then apply."""
    enrolment.check_labels(patch.labels)
    now = hub.clock()
    with hub.store.write() as session:
        row = session.get(Device, device)
        if row is None:
            raise NotFound(f"there is no device {device!r}")
        before, row.labels = row.labels, patch.labels
        audit.append(
            session,
            actor=actor.label,
            action="device.relabel",
            subject=device,
            now=now,
            before=before,
            after=patch.labels,
        )
    hub.changed()
    return _view(hub, device)


@router.post("/devices/{device}/revoke", responses=answers(401, 403, 404))
def revoke(hub: HubDep, actor: Operator, device: str) -> View:
    """Withdraw a device's identity for good: its certificates, then its directive."""
    now = hub.clock()
    with hub.store.write() as session:
        enrolment.revoke(session, device, now)
        audit.append(session, actor=actor.label, action="device.revoke", subject=device, now=now)
    hub.changed()
    return _view(hub, device)


@router.get("/devices/{device}/drift", responses=answers(401, 404))
def device_drift(hub: HubDep, _: Reader, device: str, model: ModelName = None) -> Page[View]:
    """Each feature's distribution now beside the baseline, and whether it has drifted."""
    with hub.store.read() as session:
        _must_be(queries.device(session, device, hub.clock()), device)
        items = queries.drift(
            session, hub.blobs.read, device=device, selector=None, model=model, now=hub.clock()
        )
    return Page(items=items)


@router.get("/drift", tags=["drift"], responses=answers(401, 422))
def drift(hub: HubDep, _: Reader, selector: Selector = None, model: ModelName = None) -> Page[View]:
    """The same for every device that the selector matches."""
    with hub.store.read() as session:
        items = queries.drift(
            session, hub.blobs.read, device=None, selector=selector, model=model, now=hub.clock()
        )
    return Page(items=items)


@router.get("/devices/{device}/windows", responses=answers(401, 404))
def windows(
    hub: HubDep,
    _: Reader,
    device: str,
    model: ModelName = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[View]:
    """Telemetry windows received from a device, the newest first."""
    with hub.store.read() as session:
        _must_be(queries.device(session, device, hub.clock()), device)
        items = queries.windows(
            session, device, model=model, before=number(cursor), limit=limit + 1
        )
    return Page(**page(items, limit, lambda item: item["id"]))


@router.get("/devices/{device}/counts", responses=answers(401, 404))
def counts(hub: HubDep, _: Reader, device: str) -> View:
    """Inferences, errors and label accuracy counted from a device's windows."""
    with hub.store.read() as session:
        _must_be(queries.device(session, device, hub.clock()), device)
        return queries.counts(session, device)


def _view(hub: HubDep, device: str) -> View:
    with hub.store.read() as session:
        return _must_be(queries.device(session, device, hub.clock()), device)


def _must_be(view: View | None, device: str) -> View:
    if view is None:
        raise NotFound(f"there is no device {device!r}")
    return view
