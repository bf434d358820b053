"""What a rollout did as spans of its trace, read from what the hub keeps anyway.

Devices trace nothing: they say how long each step of an update took, and pass on which trace it
belongs to. Their steps are laid end to end before the moment at which the hub heard of them.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from sqlmodel import Session, col, func, select

from muster_hub.rollouts.tracing import Traces
from muster_hub.storage.models import EventRow, OutboxMessage, Rollout, RolloutStep
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.trace import SECONDS, Traceparent

ROWS_MAX = 500
"""Of each kind, that are read at once."""
STEPS = ("fetching", "verifying", "staged", "starting", "probation", "rolling_back")
"""Steps of an update in the order in which a device takes them."""
HUB, DEVICE = "muster-hub", "muster-agent"
_UPDATES = ("update", "refused", "rolled_back")


@dataclass(frozen=True)
class Span:
    """Something that took time; seconds since 1970."""

    trace: str
    id: str
    parent: str
    name: str
    start: float
    end: float
    service: str = HUB
    fault: str = ""
    about: dict[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cursor:
    """Up to which rows spans were made."""

    step: int = 0
    message: tuple[float, int] = (0.0, 0)
    event: int = 0


def newest(session: Session, now: float) -> Cursor:
    """After all that is there: what was before isn't traced."""
    last = [session.exec(select(func.max(col(row.id)))).one() for row in (RolloutStep, EventRow)]
    return Cursor(step=last[0] or 0, message=(now, 0), event=last[1] or 0)


def read(session: Session, traces: Traces, cursor: Cursor) -> tuple[list[Span], Cursor]:
    """Spans of what came since, and from where to go on; no more than a few thousand."""
    steps = session.exec(
        select(RolloutStep, Rollout)
        .join(Rollout, col(Rollout.id) == col(RolloutStep.rollout))
        .where(col(RolloutStep.id) > cursor.step)
        .order_by(col(RolloutStep.id))
        .limit(ROWS_MAX)
    ).all()
    at, number = cursor.message
    messages = session.exec(
        select(OutboxMessage)
        .where(
            (col(OutboxMessage.published_at) > at)
            | ((col(OutboxMessage.published_at) == at) & (col(OutboxMessage.id) > number))
        )
        .order_by(col(OutboxMessage.published_at), col(OutboxMessage.id))
        .limit(ROWS_MAX)
    ).all()
    events = session.exec(
        select(EventRow)
        .where(col(EventRow.id) > cursor.event)
        .order_by(col(EventRow.id))
        .limit(ROWS_MAX)
    ).all()
    found = [span for step, rollout in steps for span in _of_step(step, rollout, traces)]
    found += [span for message in messages for span in _of_directive(message, traces)]
    found += [span for event in events for span in _of_event(event, traces)]
    if steps:
        cursor = replace(cursor, step=steps[-1][0].id or 0)
    if messages:
        last = messages[-1]
        cursor = replace(cursor, message=(last.published_at or 0.0, last.id or 0))
    if events:
        cursor = replace(cursor, event=events[-1].id or 0)
    return found, cursor


def _of_step(step: RolloutStep, rollout: Rollout, traces: Traces) -> Iterator[Span]:
    trace, root = traces.trace(step.rollout), traces.root(step.rollout)
    if not trace:
        return
    began = step.why == "started"
    yield Span(
        trace, root if began else traces.span("step", step.id), "" if began else root,
        "rollout start" if began else f"rollout {step.why}", step.at, step.at,
        about={
            "muster.rollout": step.rollout, "muster.model": rollout.model,
            "muster.version": rollout.version, "muster.wave": step.wave + 1,
            "muster.reason": step.reason,
        },
    )  # fmt: skip


class _Envelope(msgspec.Struct):
    payload: str


def _of_directive(message: OutboxMessage, traces: Traces) -> Iterator[Span]:
    """A message that told a device what to run: one span for each rollout that caused it."""
    if not message.topic.endswith("/directive") or not message.payload:
        return
    try:
        envelope = msgspec.json.decode(message.payload, type=_Envelope)
        directive = msgspec.json.decode(base64.b64decode(envelope.payload), type=Directive)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return
    if message.topic != topics.down(directive.device, "directive"):
        return
    for slot, asked in directive.slots.items():
        if isinstance(asked.traceparent, str):
            trace, parent = _parts(asked.traceparent)
            yield Span(
                trace, traces.span("directive", message.id, slot), parent, "directive publish",
                message.created, message.published_at or message.created,
                about={"muster.device": directive.device, "muster.slot": slot,
                       "muster.generation": directive.generation},
            )  # fmt: skip


class _Said(msgspec.Struct):
    """What an event says of its trace; whatever else a device sends is none of this."""

    trace: str = ""
    values: dict[str, float] = {}
    state: str | None = None
    generation: int = 0


def _of_event(event: EventRow, traces: Traces) -> Iterator[Span]:
    said = _said(event.data) if event.kind in _UPDATES else None
    if said is None:
        return
    trace, root = _parts(said.trace)
    took = [
        (step, said.values[step + SECONDS]) for step in STEPS if said.values.get(step + SECONDS)
    ]
    at = event.received - sum(seconds for _, seconds in took)
    whole = traces.span("update", event.id)
    about: dict[str, str | int] = {
        "muster.device": event.device or "", "muster.slot": event.slot,
        "muster.model": event.model, "muster.version": event.version,
        "muster.generation": said.generation, "muster.state": said.state or "",
    }  # fmt: skip
    fault = f"{event.refusal}: {event.detail}" if event.refusal else ""
    yield Span(trace, whole, root, f"device {event.kind}", at, event.received, DEVICE, fault, about)
    for step, seconds in took:
        name = traces.span(step, event.id)
        yield Span(trace, name, whole, f"device {step}", at, at + seconds, DEVICE, about=about)
        at += seconds
    yield Span(
        trace, traces.span("report", event.id), whole, "report received", event.received,
        event.received, about=about,
    )  # fmt: skip


def _said(data: dict[str, Any]) -> _Said | None:
    try:
        said = msgspec.convert(data, _Said)
        msgspec.convert(said.trace, Traceparent)
    except msgspec.ValidationError:
        return None
    return said


def _parts(traceparent: str) -> tuple[str, str]:
    """Trace and parent span of a ``traceparent``."""
    _, trace, span, _ = traceparent.split("-")
    return trace, span
