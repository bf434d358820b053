"""What the device tells: its report, and the events that are not a step of one slot's update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from muster_agent.app.goals import Goals
from muster_agent.app.ports import SupervisorPorts, SupervisorSettings
from muster_agent.base.clock import stamp
from muster_agent.observe.health import Health, Signs, judge
from muster_agent.observe.signs import SlotSigns
from muster_agent.update.ports import Progress
from muster_agent.update.runner import SlotRunner
from muster_agent.update.table import State
from muster_agent.worker.events import ComputedBy
from muster_protocol.wire import messages
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.feed_report import FeedReport
from muster_protocol.wire.limits import AUTHORITIES_MAX, EVENT_DETAIL_CHARS_MAX
from muster_protocol.wire.messages import Facts, Stamp

_REFUSED = frozenset({State.FAILED, State.ROLLING_BACK})
_CHANGING = frozenset({State.STARTING, State.PROBATION, State.ROLLING_BACK})


@dataclass(frozen=True)
class Standing:
    """What the report says besides the slots."""

    at: Stamp
    facts: Facts
    epoch: int
    generation: int
    trust: messages.TrustReport
    refusal: str | None
    refusal_detail: str
    certificate_expires: int
    outbox_rows: int
    outbox_bytes: int
    outbox_waiting_for: str


def stand(
    settings: SupervisorSettings, ports: SupervisorPorts, goals: Goals, trouble: str
) -> Standing:
    """The device apart from its slots; ``trouble`` is told where no message was refused."""
    adopted = ports.state.adopted()
    trusted, refusal = goals.trusted, goals.refusal
    stats = ports.outbox.stats()
    return Standing(
        at=stamp(ports.clock),
        facts=ports.facts(),
        epoch=adopted.epoch if adopted else 0,
        generation=adopted.generation if adopted else 0,
        trust=messages.TrustReport(
            versions=dict(trusted.versions) if trusted else {},
            expires=dict(trusted.expires) if trusted else {},
            contact=ports.contact.digest,
            authorities=ports.contact.authorities[:AUTHORITIES_MAX],
        ),
        refusal=refusal[0] if refusal else None,
        refusal_detail=refusal[1] if refusal else trouble,
        certificate_expires=settings.certificate_expires,
        outbox_rows=stats.rows,
        outbox_bytes=stats.bytes,
        outbox_waiting_for=stats.waiting_for,
    )


def build(
    standing: Standing,
    runners: Mapping[str, SlotRunner],
    progress: Mapping[str, Progress],
    waiting: Mapping[str, str],
    signs: Callable[[str, Goal], SlotSigns],
    challenger: Callable[[str], messages.Challenger | None] = lambda _slot: None,
    feed: Callable[[str], str] = lambda _slot: "",
    sampling: Callable[[str], str] = lambda _slot: "",
    *,
    feeds: Mapping[str, FeedReport] | None = None,
    agent: messages.Update | None = None,
) -> messages.Report:
    """``progress`` and ``waiting`` are by slot: of the download; what is waited for.

    ``feed`` says what a slot's feeds lack, ``sampling`` what becomes of its sampling policy;
    ``feeds`` are those that somebody watches, by name; ``agent`` is the update of the agent itself.
    """
    slots = {}
    for name, runner in runners.items():
        starved = feed(name)
        health = _health(runner, signs, starved)
        serving = runner.workers.serving
        seen = signs(name, serving.goal) if serving is not None else None
        slots[name] = messages.SlotReport(
            health=health.state,
            reason=health.reason,
            fallback=runner.workers.falls_back,
            feed=starved,
            assigned=runner.assigned,
            running=_running(runner, standing.at),
            update=_update(runner, progress.get(name, Progress()), waiting.get(name, "")),
            calibration=seen.calibration if seen else "",
            rebaselines=seen.rebaselines if seen else 0,
            challenger=challenger(name),
            sampling=sampling(name),
        )
    return messages.Report(
        at=standing.at,
        epoch=standing.epoch,
        generation=standing.generation,
        slots=slots,
        facts=msgspec.structs.replace(standing.facts, agent_update=agent),
        trust=standing.trust,
        refusal=standing.refusal,
        refusal_detail=standing.refusal_detail[:EVENT_DETAIL_CHARS_MAX],
        certificate_expires=standing.certificate_expires,
        outbox_rows=standing.outbox_rows,
        outbox_bytes=standing.outbox_bytes,
        outbox_waiting_for=standing.outbox_waiting_for,
        feeds=dict(feeds or {}),
    )


def _health(runner: SlotRunner, signs: Callable[[str, Goal], SlotSigns], feed: str) -> Health:
    serving = runner.workers.serving
    first = runner.pointer is None and runner.state not in _REFUSED
    if serving is None:
        # A device that has never had a model is no failure: it is being set up.
        return judge(Signs(serving=False, swapping=first or runner.in_gap))
    slot_signs = signs(runner.slot, serving.goal)
    return judge(
        Signs(
            serving=True,
            swapping=runner.state in _CHANGING,
            drifting=slot_signs.drifting,
            inferences=slot_signs.inferences,
            errors=slot_signs.errors,
            labels_overdue=slot_signs.labels.overdue,
            trouble=slot_signs.trouble,
            feed=feed,
        )
    )


def _running(runner: SlotRunner, now: Stamp) -> messages.Running | None:
    serving = runner.workers.serving
    if serving is None:
        return None
    computed_by = serving.computed_by or ComputedBy("")
    since = now
    pointer = runner.pointer
    if pointer is not None and pointer.since and pointer.goal.manifest == serving.goal.manifest:
        since = msgspec.msgpack.decode(pointer.since, type=Stamp)
    return messages.Running(
        model=serving.goal.model,
        version=serving.goal.version,
        manifest=serving.goal.manifest,
        runtime=computed_by.runtime,
        providers=computed_by.providers,
        threads=computed_by.threads,
        since=since,
        inferences=serving.counts.inferences,
        errors=serving.counts.errors,
    )


def _update(runner: SlotRunner, progress: Progress, waiting: str) -> messages.Update:
    row, goal = runner.row, runner.row.goal
    refused = runner.state in _REFUSED
    return messages.Update(
        state=runner.state.value,
        model=goal.model if goal else "",
        version=goal.version if goal else "",
        manifest=goal.manifest if goal else "",
        generation=row.generation,
        bytes_done=progress.done_bytes,
        bytes_total=progress.total_bytes,
        waiting_for=waiting or runner.waiting_for,
        refusal=row.refusal if refused else None,
        detail=row.detail if refused else "",
        gap_seconds=row.gap_seconds,
        fetch_seconds=progress.seconds,
        fetched_from=progress.source,
    )


def healed(slot: str, goal: Goal, count: int, at: Stamp) -> messages.Event:
    """``count`` chunks came altered from one source and right from another."""
    return messages.Event(
        kind="fetch_healed",
        at=at,
        slot=slot,
        model=goal.model,
        version=goal.version,
        manifest=goal.manifest,
        detail=f"{count} chunks came altered; a good copy came from another source",
        values={"chunks": float(count)},
    )


def note(slot: str, detail: str, at: Stamp) -> messages.Event:
    """An event that only tells the hub something, as text."""
    return messages.Event(kind="note", at=at, slot=slot, detail=detail[:EVENT_DETAIL_CHARS_MAX])


def refused(refusal: Refusal, detail: str, generation: int, at: Stamp) -> messages.Event:
    """A directive or metadata that were not taken; ``generation`` is 0 when none is known."""
    return messages.Event(
        kind="refused",
        at=at,
        generation=generation,
        refusal=refusal,
        detail=detail[:EVENT_DETAIL_CHARS_MAX],
    )
