"""Sampling: rows of raw data that devices send because people and release keys let them."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.once import OnceRoute
from muster_hub.api.pages import Cursor, Limit, Number, Page, number, page
from muster_hub.api.problems import answers
from muster_hub.api.schemas.sampling import (
    SampleLabels,
    SamplesChanged,
    SampleView,
    SamplingAsk,
    SamplingEnd,
    SamplingView,
)
from muster_hub.sampling import labelling, policies, reading

router = APIRouter(tags=["sampling"], route_class=OnceRoute)
NOT_OF_THE_POLICY = {"model", "version", "selector", "days", "bytes_max", "reason"}


@router.get("/sampling", responses=answers(401, 403))
def list_policies(
    hub: HubDep,
    leave: Annotated[Leave, asks("sampling.list")],
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SamplingView]:
    """Sampling policies, the newest first."""
    with hub.store.read() as session:
        rows = reading.policies(session, leave.scope, after=number(cursor), limit=limit + 1)
        found = [SamplingView.of(row) for row in rows]
    return Page(**page(found, limit, lambda item: str(item.id)))


@router.post("/sampling", status_code=201, responses=answers(401, 403, 404, 409))
def begin(
    hub: HubDep, leave: Annotated[Leave, asks("sampling.begin")], ask: SamplingAsk
) -> SamplingView:
    """Ask devices that run a version for rows of what it sees.

    Refused where the version's release doesn't allow it. Each device holds the policy to its
    signed release once more, and may refuse by its own `agent.toml`.
    """
    leave.release(ask.model, ask.selector, "this selector")
    with hub.store.write() as session:
        row = policies.begin(
            session,
            hub.blobs.read,
            model=ask.model,
            version=ask.version,
            selector=ask.selector,
            asked=ask.model_dump(exclude=NOT_OF_THE_POLICY),
            days=ask.days,
            bytes_max=ask.bytes_max,
            by=leave.actor.label,
            now=hub.clock(),
            reason=ask.reason,
        )
        view = SamplingView.of(row)
    hub.changed()
    return view


@router.get("/sampling/{policy}", responses=answers(401, 403, 404))
def show(
    hub: HubDep, leave: Annotated[Leave, asks("sampling.read")], policy: Number
) -> SamplingView:
    """One policy."""
    with hub.store.read() as session:
        return SamplingView.of(leave.sampling(session, policy))


@router.post("/sampling/{policy}/end", responses=answers(401, 403, 404, 409))
def end(
    hub: HubDep, leave: Annotated[Leave, asks("sampling.end")], policy: Number, ask: SamplingEnd
) -> SamplingView:
    """Ask for no more rows. Devices delete what waits there and say so; what came stays here."""
    with hub.store.write() as session:
        row = leave.sampling(session, policy)
        policies.end(session, row, by=leave.actor.label, now=hub.clock(), reason=ask.reason)
        view = SamplingView.of(row)
    hub.changed()
    return view


@router.get("/sampling/{policy}/samples", responses=answers(401, 403, 404))
def list_samples(
    hub: HubDep,
    leave: Annotated[Leave, asks("sample.read")],
    policy: Number,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SampleView]:
    """The samples that came, without what they hold."""
    with hub.store.read() as session:
        leave.sampling(session, policy)
        rows = reading.samples(session, policy, after=number(cursor) or 0, limit=limit + 1)
        found = [SampleView.of(row) for row in rows]
    return Page(**page(found, limit, lambda item: str(item.id)))


@router.get(
    "/sampling/{policy}/samples.jsonl",
    response_class=StreamingResponse,
    responses=answers(401, 403, 404),
)
def download(
    hub: HubDep, leave: Annotated[Leave, asks("sample.read")], policy: Number
) -> StreamingResponse:
    """All samples with what they hold, as JSON Lines in the order in which they came."""
    with hub.store.read() as session:
        leave.sampling(session, policy)

    def lines() -> Iterator[bytes]:
        with hub.store.read() as session:
            yield from reading.lines(session, policy)

    return StreamingResponse(lines(), media_type="application/jsonl")


@router.post("/sampling/{policy}/labels", responses=answers(401, 403, 404))
def label(
    hub: HubDep,
    leave: Annotated[Leave, asks("sample.label")],
    policy: Number,
    ask: SampleLabels,
) -> SamplesChanged:
    """Say what the right answers to samples are."""
    with hub.store.write() as session:
        row = leave.sampling(session, policy)
        by, now = leave.actor.label, hub.clock()
        return SamplesChanged(samples=labelling.put(session, row, ask.labels, by=by, now=now))


@router.post("/sampling/{policy}/forget", responses=answers(401, 403, 404))
def forget(
    hub: HubDep, leave: Annotated[Leave, asks("sample.forget")], policy: Number
) -> SamplesChanged:
    """End the policy and delete its samples, here and where they wait on devices."""
    with hub.store.write() as session:
        row = leave.sampling(session, policy)
        gone = policies.forget(session, row, by=leave.actor.label, now=hub.clock())
    hub.changed()
    return SamplesChanged(samples=gone)
