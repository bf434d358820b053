"""Assignments and rollouts, read from the database as the values decisions work on."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy import Executable, bindparam, func
from sqlmodel import Session, col, select

from muster_hub.fleet.assignments import AssignedRelease, Challenge, Override, Release
from muster_hub.fleet.known import Known
from muster_hub.identity import proof
from muster_hub.rollouts import experiment_step, kept
from muster_hub.rollouts.evidence import FAILING_EVENTS, DeviceEvent, DeviceEvidence
from muster_hub.rollouts.evidence import read as read_evidence
from muster_hub.rollouts.members import Member, Reached, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan, read_plan
from muster_hub.storage import models
from muster_protocol.wire import agent_release, directive, manifest, selectors

_FORMATS: tuple[Any, ...] = (
    func.substr(models.Version.manifest, 1, manifest.HEAD_BYTES).label("head"),
    col(models.Version.check)["baseline_format"].as_integer().label("baseline_format"),
)
"""Of a version's manifest, and of its baseline, as its check found it: none by older hubs."""
_RELEASE: tuple[Any, ...] = (
    col(models.Version.model),
    col(models.Version.version),
    col(models.Version.manifest_sha256).label("manifest"),
    func.length(models.Version.manifest).label("manifest_bytes"),
    *_FORMATS,
)
"""What ``_release`` reads of a version: not the manifest itself, which may be large."""


def _names_it(table: type[models.Assignment | models.Rollout]) -> Any:
    return (col(table.model) == col(models.Version.model)) & (
        col(table.version) == col(models.Version.version)
    )


def _release(row: Any) -> Release:
    return Release(
        model=row.model,
        version=row.version,
        manifest=row.manifest,
        manifest_bytes=row.manifest_bytes,
        needs=_needs(row),
    )


def _needs(row: Any) -> frozenset[str]:
    """Of the columns of ``_FORMATS``: what an agent must understand to be given it."""
    needs = set()
    if agent_release.is_listing(bytes(row.head)):
        needs.add(directive.AGENT)
    if manifest.format_in(bytes(row.head)) > 1:
        needs.add(manifest.UNDERSTANDS)
    if (row.baseline_format or 1) > 1:
        needs.add(manifest.BASELINE_UNDERSTANDS)
    return frozenset(needs)


_ASSIGNED = (
    sqlalchemy.select(
        *_RELEASE,
        col(models.Assignment.id),
        col(models.Assignment.slot),
        col(models.Assignment.selector),
        col(models.Assignment.precedence),
        col(models.Assignment.window_seconds),
        col(models.Assignment.rollout),
        col(models.Rollout.plan),
    )
    .join_from(models.Assignment, models.Version, _names_it(models.Assignment))
    .join(models.Rollout, col(models.Assignment.rollout) == col(models.Rollout.id), isouter=True)
)


def assignments(session: Session) -> list[AssignedRelease]:
    """Every assignment, with its selector parsed."""
    return [
        AssignedRelease(
            id=row.id,
            slot=row.slot,
            selector=selectors.parse(row.selector),
            release=_release(row),
            precedence=row.precedence,
            window_seconds=row.window_seconds,
            rollout=row.rollout,
            asks_permit=bool(row.plan) and read_plan(row.plan).asks_permit,
        )
        for row in _rows(session, _ASSIGNED)
    ]


def _rows(session: Session, query: Executable, **values: Any) -> Sequence[Any]:
    """Plain rows of what the session has written, without an object for each."""
    session.flush()
    return session.connection().execute(query, values).all()


_ROLLING = (
    sqlalchemy.select(
        *_RELEASE,
        col(models.Rollout.id),
        col(models.Rollout.slot),
        col(models.Rollout.wave),
        col(models.Rollout.window_seconds),
        col(models.Rollout.plan),
        col(models.Rollout.shadow),
    )
    .join_from(models.Rollout, models.Version, _names_it(models.Rollout))
    .where(col(models.Rollout.state).in_(("running", "paused")))
    .order_by(col(models.Rollout.id))
)
_ASKED = sqlalchemy.select(
    col(models.RolloutDevice.device),
    col(models.RolloutDevice.rollout),
    col(models.RolloutDevice.generation),
    col(models.RolloutDevice.state),
).where(
    col(models.RolloutDevice.rollout).in_(bindparam("rollouts", expanding=True)),
    col(models.RolloutDevice.state).in_(("targeted", "in_progress", "committed")),
)
_ASKED_SOME = _ASKED.where(
    col(models.RolloutDevice.device).in_(bindparam("devices", expanding=True))
)


def challenged(session: Session) -> frozenset[tuple[int, str]]:
    """(rollout, device) of each device that is to watch a release in shadow now."""
    return frozenset(
        (row.id, device) for row in _rows(session, _ROLLING) for device in _watching(row)
    )


def _watching(row: Any) -> tuple[str, ...]:
    shadow = kept.shadow_of(row.id, row.shadow) if row.wave == CANARY else None
    return shadow.devices if shadow is not None and shadow.action == "wait" else ()


@dataclass(frozen=True)
class Rolling:
    """What rollouts in progress ask, by device."""

    overrides: Mapping[str, list[Override]]
    """Of devices that were asked; one that failed is left to assignments."""
    challenges: Mapping[str, list[Challenge]]
    """Releases to watch in shadow."""
    unnoted: Collection[str]
    """Devices of which some rollout doesn't know yet the generation that first asked them."""


def rolling(session: Session, devices: Sequence[str] | None = None) -> Rolling:
    """What rollouts in progress ask of single devices, or of some: releases and challengers."""
    unnoted: set[str] = set()
    overrides: dict[str, list[Override]] = {}
    challenges: dict[str, list[Challenge]] = {}
    asks: dict[int, Override] = {}
    for row in _rows(session, _ROLLING):
        asks[row.id] = Override(
            rollout=row.id,
            slot=row.slot,
            release=_release(row),
            window_seconds=row.window_seconds,
            asks_permit=read_plan(row.plan).asks_permit,
        )
        for device in _watching(row):
            challenge = Challenge(rollout=row.id, slot=row.slot, release=_release(row))
            challenges.setdefault(device, []).append(challenge)
    asked: Sequence[Any] = ()
    if asks and devices is None:
        asked = _rows(session, _ASKED, rollouts=list(asks))
    elif asks:
        asked = _rows(session, _ASKED_SOME, rollouts=list(asks), devices=list(devices or ()))
    for device, rollout_id, generation, state in asked:
        overrides.setdefault(device, []).append(asks[rollout_id])
        if not generation and state == "targeted":
            unnoted.add(device)
    return Rolling(overrides, challenges, unnoted)


_FIRST_TRIES = sqlalchemy.select(
    col(models.Rollout.slot), col(models.Rollout.manifest), func.min(models.Rollout.id)
).group_by(col(models.Rollout.slot), col(models.Rollout.manifest))


def first_tries(session: Session) -> dict[tuple[str, str], int]:
    """(slot, manifest) → the first rollout that brought it there."""
    return {(slot, manifest): first for slot, manifest, first in _rows(session, _FIRST_TRIES)}


def plan(row: models.Rollout) -> Plan:
    """A rollout's plan, parsed."""
    return read_plan(row.plan)


def rollout(row: models.Rollout) -> StagedRollout:
    """A rollout's row as decisions see it."""
    judged = kept.judged(row)
    return StagedRollout(
        id=row.id or 0,
        state=row.state,  # type: ignore[arg-type]  # the database holds the column to these words
        wave=row.wave,
        plan=plan(row),
        approved=row.approved,
        advanced=row.advanced,
        settled_at=row.settled_at,
        looked_at=row.looked_at,
        shadow=kept.shadow(row),
        arms=experiment_step.arms(judged),
        judged=judged,
    )


@dataclass(frozen=True)
class Targeted:
    """A device that a rollout has asked, as the database has it."""

    generation: int
    targeted_at: float
    reached: Reached


_ROW = models.RolloutDevice
_REACHED = sqlalchemy.select(
    col(_ROW.device), col(_ROW.generation), col(_ROW.targeted_at), col(_ROW.wave), col(_ROW.state),
    col(_ROW.online_since), col(_ROW.online_seconds), col(_ROW.changed_at), col(_ROW.detail),
).where(col(_ROW.rollout) == bindparam("rollout"))  # fmt: skip
_REACHED_SOME = _REACHED.where(col(_ROW.device).in_(bindparam("devices", expanding=True)))


def reached(
    session: Session, rollout_id: int, devices: Sequence[str] | None = None
) -> dict[str, Targeted]:
    """How far the rollout has come with each device that it has asked, or with some."""
    rows = (
        _rows(session, _REACHED, rollout=rollout_id)
        if devices is None
        else _rows(session, _REACHED_SOME, rollout=rollout_id, devices=list(devices))
    )
    return {
        row.device: Targeted(
            row.generation,
            row.targeted_at,
            Reached(
                wave=row.wave,
                state=row.state,
                online_since=row.online_since,
                online_seconds=row.online_seconds,
                changed_at=row.changed_at,
                detail=row.detail,
            ),
        )
        for row in rows
    }


def members(
    session: Session,
    row: models.Rollout,
    asked: Mapping[str, Targeted],
    devices: Iterable[Known],
    events: Mapping[str, Sequence[DeviceEvent]],
) -> list[Member]:
    """Those of these devices that the rollout concerns, with the evidence about each; ``events``
    are what they told that went wrong.
    """
    concerns = concerned(row)
    required = plan(row).require_proof
    needs = needs_of(session, row)
    found = []
    for device in devices:
        matches = concerns(device)
        mine = asked.get(device.id)
        if not matches and mine is None:
            continue
        evidence = _evidence(row, mine, device, events.get(device.id, ()))
        if mine is not None and device.report is not None and not device.reads(needs):
            evidence = DeviceEvidence(stage="failed", detail=device.words_of_old_agent(needs))
        news = (
            evidence.stage == "committed" and mine is not None and mine.reached.state != "committed"
        )
        slot = row.slot != agent_release.NAME  # What runs is proved of slots alone.
        if news and slot and _must_prove(device, required) and not _proves(session, row, device):
            evidence = UNPROVED
        found.append(
            Member(
                device=device.id,
                labels=device.labels,
                online=(device.online or evidence.restarts) and device.active,
                matches=matches,
                reached=mine.reached if mine is not None else None,
                evidence=evidence,
            )
        )
    return found


def needs_of(session: Session, row: models.Rollout) -> frozenset[str]:
    """What an agent must understand to be given the version that a rollout brings."""
    query = sqlalchemy.select(*_FORMATS).where(
        col(models.Version.model) == row.model, col(models.Version.version) == row.version
    )
    found = session.execute(query).first()
    return frozenset() if found is None else _needs(found)


UNPROVED = DeviceEvidence(
    stage="in_progress", detail="says that it runs it, without proof by its identity key"
)


def _must_prove(device: Known, required: bool | None) -> bool:  # noqa: FBT001 (as a plan says it)
    facts = (device.report or {}).get("facts") or {}
    return facts.get("key") == "hardware" if required is None else required


def _proves(session: Session, row: models.Rollout, device: Known) -> bool:
    """Whether a device's latest report proves that the rollout's version runs in its slot."""
    held = models.Certificate
    certificates = session.exec(
        select(held.pem).where(col(held.device) == device.id, col(held.revoked).is_(None))
    ).all()
    slots = proof.proved_slots(device.id, device.report, certificates)
    return slots.get(row.slot, {}).get("manifest") == row.manifest


def concerned(row: models.Rollout) -> Callable[[Known], bool]:
    """Whether a rollout is for a device: it is active, matches, and if static was there first."""
    selector = selectors.parse(row.selector)
    latest = row.created if plan(row).static else float("inf")
    return lambda device: (
        device.active and device.created <= latest and selector.matches(device.labels)
    )


def _evidence(
    row: models.Rollout,
    mine: Targeted | None,
    device: Known,
    events: Iterable[DeviceEvent],
) -> DeviceEvidence:
    if mine is None or mine.generation == 0:
        return DeviceEvidence(stage="unseen", detail="not asked yet")
    return read_evidence(
        device.report,
        events,
        slot=row.slot,
        manifest=row.manifest,
        generation=mine.generation,
        targeted_at=mine.targeted_at,
    )


_FAILING = select(models.EventRow).where(
    col(models.EventRow.manifest) == bindparam("manifest"),
    col(models.EventRow.kind).in_(FAILING_EVENTS),
    col(models.EventRow.received) >= bindparam("since"),
)


def failing_events(session: Session, row: models.Rollout) -> dict[str, list[DeviceEvent]]:
    """What devices told of the rollout's version that went wrong since it began, by device."""
    found = session.exec(_FAILING, params={"manifest": row.manifest, "since": row.created})
    by_device: dict[str, list[DeviceEvent]] = {}
    for event in sorted(found, key=lambda event: event.id or 0):
        device_event = DeviceEvent(
            kind=event.kind,
            slot=event.slot,
            manifest=event.manifest,
            generation=event.generation,
            received=event.received,
            refusal=event.refusal,
            detail=event.detail,
        )
        by_device.setdefault(event.device or "", []).append(device_event)
    return by_device
