"""Devices: what they are, what they report, and taking them out."""

from base64 import b64encode
from typing import Annotated

from fastapi import APIRouter, Query, Response

from muster_hub.access.leave import Leave
from muster_hub.alerts import reading as alerts_reading
from muster_hub.api import etags
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.etags import IfMatch
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import PAGE_MAX, Cursor, Limit, Page, SelectorText, number, page, sent
from muster_hub.api.problems import answers
from muster_hub.api.schemas.base import View
from muster_hub.api.schemas.devices import (
    CountsView,
    DeviceView,
    DiagnosisAsked,
    DiagnosisView,
    LabelsPatch,
    Replace,
    RestartAsked,
    Retry,
    RetryView,
    SetAsideView,
    WindowView,
)
from muster_hub.api.schemas.drift import DriftView, Rebaseline, RebaselineView
from muster_hub.api.schemas.enrol import TokenAnswer
from muster_hub.api.schemas.feeds import FeedsAsked, FeedsView
from muster_hub.audit import log
from muster_hub.fleet import diagnosing, feed_watching, restarting, retrying, set_aside
from muster_hub.fleet import reading as fleet_reading
from muster_hub.identity import enrolment
from muster_hub.monitoring import drift_reading, drift_step
from muster_hub.monitoring import reading as monitoring_reading
from muster_hub.registry.published import read_baseline
from muster_hub.rollouts import commands
from muster_hub.storage import quarantine

router = APIRouter(tags=["devices"], route_class=OnceRoute)

Devices = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Devices on a page.")]
ModelName = Annotated[str | None, Query(max_length=64, examples=["digits"])]


@router.get("/devices", response_model=Page[DeviceView], responses=answers(401, 422))
def devices(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.list")],
    selector: SelectorText = None,
    holding: Annotated[
        str, Query(max_length=128, description="Only whose id or labels hold this text.")
    ] = "",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Devices by id, each with its latest report."""
    chosen = leave.narrow(selector)
    with hub.store.read() as session:
        items = fleet_reading.devices(
            session,
            leave.actor.scope,
            selector=chosen,
            after=cursor or "",
            limit=limit + 1,
            now=hub.clock(),
            holding=holding,
        )
    return sent(page(items, limit, lambda item: item["id"]))


@router.get("/devices/{device}", response_model=DeviceView, responses=answers(401, 403, 404))
def device(
    hub: HubDep, leave: Annotated[Leave, asks("device.read")], device: str, response: Response
) -> View:
    """One device with its latest report."""
    return _view(hub, leave, device, response)


@router.patch(
    "/devices/{device}", response_model=DeviceView, responses=answers(401, 403, 404, 412, 422)
)
def relabel(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.relabel")],
    device: str,
    patch: LabelsPatch,
    response: Response,
    if_match: IfMatch = None,
) -> View:
    """Replace a device's labels; assignments that match them then apply."""
    enrolment.check_labels(patch.labels)
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        leave.labels(f"device {device} with the new labels", patch.labels)
        etags.check(if_match, _tag(row.labels, revoked=row.revoked))
        before, row.labels = row.labels, patch.labels
        log.append(
            session,
            actor=leave.actor.label,
            action="device.relabel",
            subject=device,
            now=now,
            before=before,
            after=patch.labels,
        )
    hub.changed()
    return _view(hub, leave, device, response)


@router.post(
    "/devices/{device}/approve", response_model=DeviceView, responses=answers(401, 403, 404, 409)
)
def approve(
    hub: HubDep, leave: Annotated[Leave, asks("device.approve")], device: str, response: Response
) -> View:
    """Let a device have something to run that enrolled with a token for approval."""
    now = hub.clock()
    with hub.store.write() as session:
        leave.device(session, device, whole=True)
        enrolment.approve(session, device, now)
        log.append(
            session, actor=leave.actor.label, action="device.approve", subject=device, now=now
        )
    hub.changed()
    return _view(hub, leave, device, response)


@router.post(
    "/devices/{device}/revoke", response_model=DeviceView, responses=answers(401, 403, 404, 412)
)
def revoke(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.revoke")],
    device: str,
    response: Response,
    if_match: IfMatch = None,
) -> View:
    """Withdraw a device's identity for good: its certificates, then its directive."""
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        etags.check(if_match, _tag(row.labels, revoked=row.revoked))
        enrolment.revoke(session, device, now)
        log.append(
            session, actor=leave.actor.label, action="device.revoke", subject=device, now=now
        )
    hub.changed()
    return _view(hub, leave, device, response)


@router.post(
    "/devices/{device}/replace", status_code=201, responses=answers(401, 403, 404, 409, 422)
)
def replace(
    hub: HubDep, leave: Annotated[Leave, asks("device.replace")], device: str, ask: Replace
) -> TokenAnswer:
    """End a machine's identity at once, and make a token for the one that takes over its name.

    What is assigned to the device, and its history, go on under that name.
    """
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        enrolment.replace(session, device, now)
        token = enrolment.make_token(
            session,
            hub.pki.ca_fingerprint,
            labels=row.labels,
            uses=1,
            expires_seconds=ask.expires_seconds,
            device=device,
            selector=str(leave.actor.scope.selector),
            now=now,
        )
        log.append(
            session, actor=leave.actor.label, action="device.replace", subject=device, now=now,
            token=token.partition(".")[0],
        )  # fmt: skip
    hub.changed()
    return TokenAnswer(token=token, expires=now + ask.expires_seconds)


@router.delete("/devices/{device}", status_code=204, responses=answers(401, 403, 404, 409, 412))
def delete(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.delete")],
    device: str,
    if_match: IfMatch = None,
) -> None:
    """Take a device that was revoked, or never heard of, off every list.

    Its telemetry goes with its age, as all does. The name of a revoked device stays taken.
    """
    now = hub.clock()
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        etags.check(if_match, _tag(row.labels, revoked=row.revoked))
        before = row.labels
        enrolment.delete(session, device, now)
        for alert in alerts_reading.of_device(session, leave.actor.scope, device):
            commands.resolve_alert(session, alert["id"], by=leave.actor.name, now=now)
        log.append(
            session, actor=leave.actor.label, action="device.delete", subject=device, now=now,
            before=before,
        )  # fmt: skip
    hub.changed()


@router.post("/devices/{device}/retry", responses=answers(401, 403, 404, 409, 422))
def retry(
    hub: HubDep, leave: Annotated[Leave, asks("device.retry")], device: str, ask: Retry
) -> RetryView:
    """Have a device try anew what it refused or rolled back; its agent must know how to.

    A slot where nothing was refused goes on as it is.
    """
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        slots = retrying.retry(session, row, slot=ask.slot, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return RetryView(device=device, slots=slots)


@router.post("/devices/{device}/restart", status_code=202, responses=answers(401, 403, 404, 409))
def restart(
    hub: HubDep, leave: Annotated[Leave, asks("device.restart")], device: str
) -> RestartAsked:
    """Have a device's agent start anew, once: its models don't answer for some seconds.

    It obeys within the next hour or not at all. A second request within a minute is the same one.
    """
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        request, until = restarting.ask(session, row, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return RestartAsked(device=device, request=request, until=until)


@router.post("/devices/{device}/diagnose", status_code=202, responses=answers(401, 403, 404, 409))
def diagnose(
    hub: HubDep, leave: Annotated[Leave, asks("device.diagnose")], device: str
) -> DiagnosisAsked:
    """Ask a device what is wrong on it; it answers when it has a link.

    What its agent's `doctor` finds comes, and the latest warnings of its log.
    """
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        request = diagnosing.ask(session, row, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return DiagnosisAsked(device=device, request=request)


@router.get("/devices/{device}/diagnosis", responses=answers(401, 403, 404))
def diagnosis(
    hub: HubDep, leave: Annotated[Leave, asks("device.diagnosis")], device: str
) -> DiagnosisView:
    """What a device answered last when it was asked what is wrong on it."""
    with hub.store.read() as session:
        row = leave.device(session, device, whole=True)
        return DiagnosisView(**diagnosing.answer(session, row))


@router.post("/devices/{device}/feeds", status_code=202, responses=answers(401, 403, 404, 409))
def watch_feeds(
    hub: HubDep, leave: Annotated[Leave, asks("device.watch-feeds")], device: str
) -> FeedsAsked:
    """Have a device tell how its feeds stand, about every five seconds for two minutes.

    One that was asked within the last minute goes on telling and is not asked anew.
    """
    with hub.store.write() as session:
        row = leave.device(session, device, whole=True)
        request = feed_watching.ask(session, row, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return FeedsAsked(device=device, request=request)


@router.get("/devices/{device}/feeds", responses=answers(401, 403, 404))
def feeds(hub: HubDep, leave: Annotated[Leave, asks("device.feeds")], device: str) -> FeedsView:
    """What a device told of its feeds last: each signal's value, unit, quality and age."""
    with hub.store.read() as session:
        row = leave.device(session, device, whole=True)
        return FeedsView(**feed_watching.view(row, hub.clock()))


@router.get("/devices/{device}/drift", responses=answers(401, 403, 404))
def device_drift(
    hub: HubDep, leave: Annotated[Leave, asks("device.read")], device: str, model: ModelName = None
) -> Page[DriftView]:
    """Each feature's distribution now beside the baseline, and whether it has drifted."""
    with hub.store.read() as session:
        leave.device(session, device)
        items = drift_reading.device_drift(session, hub.blobs.read, device, model=model)
    return Page(items=_of_scope(leave, items))


@router.post("/devices/{device}/rebaseline", responses=answers(401, 403, 404, 422))
def rebaseline(
    hub: HubDep, leave: Annotated[Leave, asks("device.rebaseline")], device: str, ask: Rebaseline
) -> RebaselineView:
    """Take what a model sees on a device now as normal there, so that its drift alert resolves.

    The hub then compares with the device's last windows, until it has calibrated anew.
    """
    with hub.store.write() as session:
        leave.device_and_model(session, device, ask.model)
        done = drift_step.rebaseline(
            session,
            lambda manifest: read_baseline(manifest, hub.blobs.read),
            device=device,
            model=ask.model,
            by=leave.actor.label,
            now=hub.clock(),
        )
    hub.changed()
    return RebaselineView(**done)


@router.get("/drift", tags=["drift"], responses=answers(401, 422))
def drift(
    hub: HubDep,
    leave: Annotated[Leave, asks("drift.list")],
    selector: SelectorText = None,
    model: ModelName = None,
    limit: Devices = 100,
    cursor: Cursor = None,
) -> Page[DriftView]:
    """The same for every device that the selector matches, by device.

    A device has an item for each model that sent windows, and none before that.
    """
    chosen = leave.narrow(selector)
    with hub.store.read() as session:
        names = drift_reading.devices_of_page(
            session, selector=chosen, after=cursor or "", limit=limit + 1
        )
        items = drift_reading.drift(session, hub.blobs.read, names[:limit], model=model)
    following = names[limit - 1] if len(names) > limit else None
    return Page(items=_of_scope(leave, items), next=following)


@router.get(
    "/devices/{device}/windows", response_model=Page[WindowView], responses=answers(401, 403, 404)
)
def windows(
    hub: HubDep,
    leave: Annotated[Leave, asks("device.read")],
    device: str,
    model: ModelName = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Telemetry windows received from a device, the newest first."""
    with hub.store.read() as session:
        leave.device(session, device)
        items = monitoring_reading.windows(
            session,
            leave.actor.scope,
            device,
            model=model,
            before=number(cursor),
            limit=limit + 1,
        )
    return sent(page(items, limit, lambda item: item["id"]))


@router.get("/devices/{device}/counts", responses=answers(401, 403, 404))
def counts(hub: HubDep, leave: Annotated[Leave, asks("device.read")], device: str) -> CountsView:
    """Inferences, errors and label accuracy counted from a device's windows."""
    with hub.store.read() as session:
        leave.device(session, device)
        return CountsView(**monitoring_reading.counts(session, leave.actor.scope, device))


@router.get("/devices/{device}/set-aside", responses=answers(401, 403, 404))
def set_aside_messages(
    hub: HubDep, leave: Annotated[Leave, asks("device.set-aside")], device: str
) -> Page[SetAsideView]:
    """A few of the messages of a device that could not be read or kept, the newest first."""
    with hub.store.read() as session:
        leave.device(session, device, whole=True)
        rows = set_aside.kept(session, device, quarantine.ROWS_PER_DEVICE_MAX)
    items = [
        SetAsideView(
            id=row.id or 0,
            leaf=row.leaf,
            received=row.received,
            fault=row.fault,
            size_bytes=row.size_bytes,
            payload=b64encode(row.payload).decode(),
        )
        for row in rows
    ]
    return Page(items=items)


def _view(hub: HubDep, leave: Leave, device: str, response: Response) -> View:
    with hub.store.read() as session:
        leave.device(session, device)
        found = fleet_reading.device(session, leave.actor.scope, device, hub.clock())
    assert found is not None
    response.headers["ETag"] = _tag(found["labels"], revoked=found["revoked"])
    return found


def _of_scope(leave: Leave, items: list[View]) -> list[DriftView]:
    return [DriftView(**item) for item in items if leave.actor.scope.has_model(item["model"])]


def _tag(labels: dict[str, str], *, revoked: bool) -> str:
    return etags.tag(labels, revoked)
