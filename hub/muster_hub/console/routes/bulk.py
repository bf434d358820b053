"""One act on all devices of a selector: looked at with its blast radius, then done one by one."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response

from muster_hub.access.leave import Leave
from muster_hub.api.auth import HubDep, asks
from muster_hub.api.hub import Hub
from muster_hub.api.once import OnceRoute
from muster_hub.api.routes import devices as api
from muster_hub.api.schemas.devices import LabelsPatch, Retry
from muster_hub.api.schemas.drift import Rebaseline
from muster_hub.console import bulk
from muster_hub.console.bulk import BulkAct, BulkAsk, Reach
from muster_hub.console.rendering import may_do, render
from muster_hub.console.routes.fleet import TEXT_CHARS_MAX, read_search
from muster_hub.errors import Conflict, HubError, Invalid
from muster_hub.fleet import overview
from muster_hub.fleet.overview import Glimpse
from muster_hub.rollouts import load
from muster_protocol.wire import selectors

router = APIRouter(route_class=OnceRoute)
ACTS: dict[BulkAct, tuple[str, str]] = {
    "label": ("device.relabel", "Set a label"),
    "approve": ("device.approve", "Approve"),
    "retry": ("device.retry", "Have them try anew"),
    "rebaseline": ("device.rebaseline", "Take what they see as normal"),
    "revoke": ("device.revoke", "Revoke for good"),
}
"""The access act of each, and its words."""
FAULTS_SHOWN = 50
WORD_CHARS_MAX = 64
Word = Annotated[str, Query(max_length=WORD_CHARS_MAX)]
Field = Annotated[str, Form(max_length=WORD_CHARS_MAX)]
Selector = Annotated[str, Form(max_length=TEXT_CHARS_MAX)]
Tag = Annotated[str, Form(max_length=64)]


@router.get("/bulk")
def look(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.list")],
    q: Annotated[str, Query(max_length=TEXT_CHARS_MAX)] = "",
    act: BulkAct | None = None,
    key: Word = "",
    value: Word = "",
    model: Word = "",
) -> Response:
    """Whom an act would reach and what it would change; nothing is done."""
    chosen, part, fault = read_search(q)
    narrowed = leave.narrow(str(chosen))
    if part:
        fault = "A name chooses no devices here: write a selector, such as site=berlin."
    ask = BulkAsk(act, key.strip(), value.strip(), model.strip()) if act and not fault else None
    found, lacks = None, ""
    try:
        if ask is not None and not (lacks := ask.lacks):
            found = _reach(hub, leave, narrowed, ask)
    except Invalid as error:
        fault = str(error)
    return _page(request, leave, narrowed if found else q, ask, found, fault=fault or lacks)


@router.post("/bulk/label")
def label(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.relabel")],
    q: Selector = "",
    key: Field = "",
    value: Field = "",
    tag: Tag = "",
) -> Response:
    """Set a label on each device, or take it away."""
    ask = BulkAsk("label", key, value)

    def act(device: Glimpse) -> None:
        patch = LabelsPatch(labels=ask.labels(device.labels))
        api.relabel(hub, leave, device.id, patch, Response(), None)

    return _do(request, hub, leave, q, ask, tag, act)


@router.post("/bulk/approve")
def approve(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.approve")],
    q: Selector = "",
    tag: Tag = "",
) -> Response:
    """Let each device that waits for it have something to run."""
    return _do(
        request, hub, leave, q, BulkAsk("approve"), tag,
        lambda device: api.approve(hub, leave, device.id, Response()),
    )  # fmt: skip


@router.post("/bulk/retry")
def retry(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.retry")],
    q: Selector = "",
    tag: Tag = "",
) -> Response:
    """Have each device try anew what it refused."""
    return _do(
        request, hub, leave, q, BulkAsk("retry"), tag,
        lambda device: api.retry(hub, leave, device.id, Retry()),
    )  # fmt: skip


@router.post("/bulk/rebaseline")
def rebaseline(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.rebaseline")],
    q: Selector = "",
    model: Field = "",
    tag: Tag = "",
) -> Response:
    """Take what a model sees on each device now as normal there."""
    ask = BulkAsk("rebaseline", model=model)
    return _do(
        request, hub, leave, q, ask, tag,
        lambda device: api.rebaseline(hub, leave, device.id, Rebaseline(model=model)),
    )  # fmt: skip


@router.post("/bulk/revoke")
def revoke(
    request: Request,
    hub: HubDep,
    leave: Annotated[Leave, asks("device.revoke")],
    q: Selector = "",
    tag: Tag = "",
    count: Annotated[int, Form(ge=0, le=bulk.DEVICES_MAX)] = 0,
) -> Response:
    """Take each device out for good; whoever asks has typed how many."""
    ask = BulkAsk("revoke")
    _may(leave, q, ask)
    found = _reach(hub, leave, q, ask)
    if count != found.changed:
        raise Invalid(f"{found.changed} devices would be revoked, not {count}: nothing was done")
    return _do(
        request, hub, leave, q, ask, tag,
        lambda device: api.revoke(hub, leave, device.id, Response(), None),
    )  # fmt: skip


def _reach(hub: Hub, leave: Leave, selector: str, ask: BulkAsk) -> Reach:
    with hub.store.read() as session:
        chosen = selectors.parse(selector)
        devices = overview.read(session, leave.actor.scope, chosen, hub.clock())
        # Two thousand selectors take long to read, and only new labels meet others.
        labels = ask.act == "label" and ask.key
        return bulk.reach(ask, devices, load.assignments(session) if labels else ())


def _may(leave: Leave, q: str, ask: BulkAsk) -> None:
    """Raise Refused where the selector or the model goes beyond what one may act on."""
    words = f"devices with {q}" if q else "all devices"
    if ask.act == "rebaseline":
        leave.release(ask.model, q, words)
    else:
        leave.selector(q, words)


def _do(
    request: Request,
    hub: Hub,
    leave: Leave,
    q: str,
    ask: BulkAsk,
    tag: str,
    act: Callable[[Glimpse], Any],
) -> Response:
    """Each device that it changes, as the API does it: audited, and refused, one by one."""
    _may(leave, q, ask)
    if lacks := ask.lacks:
        raise Invalid(lacks)
    found = _reach(hub, leave, q, ask)
    if tag != found.tag:
        raise Conflict(
            "what it would reach has changed since you looked: nothing was done; look again"
        )
    done, faults = 0, list[tuple[str, str]]()
    for device in found.devices:
        if not bulk.changes(ask, device):
            continue
        try:
            act(device)
            done += 1
        except HubError as error:
            if error.status == 403:
                raise  # It holds for all of them, and is in the log.
            faults.append((device.id, str(error)))
    return _page(request, leave, q, ask, found, done=done, faults=faults)


def _page(
    request: Request,
    leave: Leave,
    q: str,
    ask: BulkAsk | None,
    found: Reach | None,
    *,
    fault: str = "",
    done: int | None = None,
    faults: list[tuple[str, str]] | None = None,
) -> Response:
    offered = {name: words for name, (act, words) in ACTS.items() if may_do(leave.actor, act)}
    return render(
        request,
        "bulk.html",
        q=q,
        ask=ask,
        found=found,
        fault=fault,
        done=done,
        faults=(faults or [])[:FAULTS_SHOWN],
        failed=len(faults or []),
        offered=offered,
        words=ACTS[ask.act][1] if ask else "",
        named=bulk.NAMED,
    )
