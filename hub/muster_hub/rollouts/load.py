"""Assignments and rollouts, read from the database as the values decisions work on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from muster_protocol.wire import manifest, selectors

_RELEASE: tuple[Any, ...] = (
    col(models.Version.model),
    col(models.Version.version),
    col(models.Version.manifest_sha256).label("manifest"),
    func.length(models.Version.manifest).label("manifest_bytes"),
    func.substr(models.Version.manifest, 1, manifest.HEAD_BYTES).label("head"),
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
        format=manifest.format_in(bytes(row.head)),
    )


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
    col(models.RolloutDevice.device), col(models.RolloutDevice.rollout)
).where(
    col(models.RolloutDevice.rollout).in_(bindparam("rollouts", expanding=True)),
    col(models.RolloutDevice.state).in_(("targeted", "in_progress", "committed")),
)


@dataclass(frozen=True)
class Rolling:
    """What rollouts in progress ask, by device."""

    overrides: Mapping[str, list[Override]]
    """Of devices that were asked; one that failed is left to assignments."""
    challenges: Mapping[str, list[Challenge]]
    """Releases to watch in shadow."""


def rolling(session: Session) -> Rolling:
    """What rollouts in progress ask of single devices: releases and challengers."""
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
        shadow = kept.shadow_of(row.id, row.shadow) if row.wave == CANARY else None
        if shadow is not None and shadow.action == "wait":
            challenge = Challenge(rollout=row.id, slot=row.slot, release=_release(row))
            for device in shadow.devices:
                challenges.setdefault(device, []).append(challenge)
    asked = _rows(session, _ASKED, rollouts=list(asks)) if asks else ()
    for device, rollout_id in asked:
        overrides.setdefault(device, []).append(asks[rollout_id])
    return Rolling(overrides, challenges)


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


_REACHED = select(models.RolloutDevice).where(
    col(models.RolloutDevice.rollout) == bindparam("rollout")
)


def reached_rows(session: Session, rollout_id: int) -> dict[str, models.RolloutDevice]:
    """How far the rollout has come with each device that it has asked."""
    found = session.exec(_REACHED, params={"rollout": rollout_id})
    return {row.device: row for row in found}


def members(
    session: Session,
    row: models.Rollout,
    reached: Mapping[str, models.RolloutDevice],
    known: Mapping[str, Known],
) -> list[Member]:
    """Every device the rollout concerns, with the evidence about it."""
    events = _events(session, row)
    concerns = concerned(row)
    required = plan(row).require_proof
    named = manifest_format(session, row)
    found = []
    for device in known.values():
        matches = concerns(device)
        mine = reached.get(device.id)
        if not matches and mine is None:
            continue
        evidence = _evidence(row, mine, device, events.get(device.id, ()))
        if mine is not None and device.report is not None and not device.reads(named):
            evidence = DeviceEvidence(stage="failed", detail=device.words_of_old_agent(named))
        news = evidence.stage == "committed" and mine is not None and mine.state != "committed"
        if news and _must_prove(device, required) and not _proves(session, row, device):
            evidence = UNPROVED
        found.append(
            Member(
                device=device.id,
                labels=device.labels,
                online=device.online and device.active,
                matches=matches,
                reached=_reached(mine),
                evidence=evidence,
            )
        )
    return found


UNPROVED = DeviceEvidence(
    stage="in_progress", detail="says that it runs it, without proof by its identity key"
)


def manifest_format(session: Session, row: models.Rollout) -> int:
    """Of the manifest that a rollout brings."""
    head = func.substr(models.Version.manifest, 1, manifest.HEAD_BYTES)
    query = select(head).where(
        col(models.Version.model) == row.model, col(models.Version.version) == row.version
    )
    return manifest.format_in(bytes(session.exec(query).first() or b""))


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


def _reached(row: models.RolloutDevice | None) -> Reached | None:
    if row is None:
        return None
    return Reached(
        wave=row.wave,
        state=row.state,  # type: ignore[arg-type]  # the database holds the column to these words
        online_since=row.online_since,
        online_seconds=row.online_seconds,
        changed_at=row.changed_at,
        detail=row.detail,
    )


def _evidence(
    row: models.Rollout,
    mine: models.RolloutDevice | None,
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


_FAILING = (
    select(models.EventRow)
    .where(
        col(models.EventRow.manifest) == bindparam("manifest"),
        col(models.EventRow.kind).in_(FAILING_EVENTS),
        col(models.EventRow.received) >= bindparam("since"),
    )
    .order_by(col(models.EventRow.id))
)


def _events(session: Session, row: models.Rollout) -> dict[str, list[DeviceEvent]]:
    about = {"manifest": row.manifest, "since": row.created}
    found = session.exec(_FAILING, params=about)
    by_device: dict[str, list[DeviceEvent]] = {}
    for event in found:
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
