"""A device's record for an auditor: what ran when, from which data, on whose approval, until when.

Each line is one fact with its source in the hub's tables; what the hub doesn't know is not filled
in. Times are seconds since 1970 by the hub's clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlmodel import Session, col, or_, select

from muster_hub.audit import log
from muster_hub.errors import Invalid
from muster_hub.storage.models import (
    Alert,
    Audit,
    Certificate,
    Device,
    EventRow,
    Rollout,
    RolloutDevice,
    RolloutStep,
    Rollup,
    Version,
)
from muster_protocol.wire import manifest

FORM = "muster-record-1"
LINES_MAX = 100_000
SECONDS_MAX = 5 * 366 * 86_400.0
DAY_SECONDS = 86_400.0
COMMITTED = "committed"
RUNS = ("update", "rolled_back")
"""Events by which another version runs."""
Plain = dict[str, Any]


def lines(
    session: Session, device: Device, since: float, until: float, *, hub: str, by: str, now: float
) -> list[Plain]:
    """The record of [since, until), in order of time within each kind. Raises Invalid."""
    if not 0 < until - since <= SECONDS_MAX:
        raise Invalid("until: it must lie after since, by five years at most")
    found: list[Plain] = [_about(session, device, since, until, hub=hub, by=by, now=now)]
    events = _events(session, device.id, since, until)
    found += _ran(events, since, until)
    found += [_event(row) for row in events if row.received >= since]
    used = _used(session, device.id, since, until)
    found += used
    versions = sorted({(line["model"], line["version"]) for line in found if line.get("version")})
    rollouts = _rollouts(session, device.id, since, until)
    alerts = _alerts(session, device.id, since, until)
    found += _versions(session, versions) + rollouts + alerts
    subjects = {
        device.id,
        *(f"{model}/{version}" for model, version in versions),
        *(f"rollout/{line['rollout']}" for line in rollouts),
        *(f"alert/{line['alert']}" for line in alerts),
    }
    found += _acts(session, subjects, until)
    if len(found) > LINES_MAX:
        raise Invalid(f"{len(found)} lines, at most {LINES_MAX}: ask for a shorter time")
    return found


def _about(
    session: Session, device: Device, since: float, until: float, *, hub: str, by: str, now: float
) -> Plain:
    held = log.anchor(session)
    certificates = session.exec(
        select(Certificate)
        .where(Certificate.device == device.id, Certificate.issued < until)
        .order_by(col(Certificate.issued))
    ).all()
    return {
        "kind": "about",
        "form": FORM,
        "device": device.id,
        "labels": device.labels,
        "since": since,
        "until": until,
        "hub": hub,
        "made": now,
        "made_for": by,
        "certificates": [
            {
                "serial": row.serial, "key_sha256": row.key_fingerprint, "issued": row.issued,
                "expires": row.expires, "revoked": row.revoked,
            }
            for row in certificates
        ],
        "audit_rows_archived": 0 if held is None else held.rows,
        "notes": [
            "Times are the hub's: of events, when it received them.",
            "What ran and what was counted is what the device reported under its certificate.",
            "Acts that were archived from the hub's audit log are in its archives, not here.",
        ],
    }  # fmt: skip


def _events(session: Session, device: str, since: float, until: float) -> Sequence[EventRow]:
    """Events of the time, and earlier ones that say what ran when it began."""
    query = select(EventRow).where(
        EventRow.device == device,
        col(EventRow.received) < until,
        or_(col(EventRow.received) >= since, col(EventRow.kind).in_(RUNS)),
    )
    return session.exec(query.order_by(col(EventRow.received), col(EventRow.id))).all()


def _ran(events: Iterable[EventRow], since: float, until: float) -> list[Plain]:
    """From when until when each version answered in each slot, by what the device reported."""
    running: dict[str, Plain] = {}
    found: list[Plain] = []
    for row in events:
        if row.kind not in RUNS or not row.manifest:
            continue
        if row.kind == "update" and row.data.get("state") != COMMITTED:
            continue
        before = running.pop(row.slot, None)
        if before is not None:
            before["until"] = row.received
            found.append(before)
        if row.kind == "update":
            running[row.slot] = {
                "kind": "ran", "slot": row.slot, "model": row.model, "version": row.version,
                "manifest_sha256": row.manifest, "from": row.received, "until": None,
                "generation": row.generation,
            }  # fmt: skip
    found += running.values()
    return [
        line
        for line in found
        if line["from"] < until and (line["until"] is None or line["until"] > since)
    ]


def _event(row: EventRow) -> Plain:
    return {
        "kind": "event", "at": row.received, "what": row.kind, "slot": row.slot,
        "model": row.model, "version": row.version, "state": row.data.get("state"),
        "refusal": row.refusal, "detail": row.detail, "generation": row.generation,
    }  # fmt: skip


def _used(session: Session, device: str, since: float, until: float) -> list[Plain]:
    """What the device counted, by days in UTC: the period of use of each version."""
    query = select(Rollup).where(
        Rollup.level == "day",
        Rollup.device == device,
        col(Rollup.start) > since - DAY_SECONDS,
        col(Rollup.start) < until,
    )
    return [
        {
            "kind": "used", "day": row.start, "model": row.model, "version": row.version,
            "manifest_sha256": row.manifest, "inferences": row.n, "errors": row.errors,
            "labels_right": row.labels_right, "labels_wrong": row.labels_wrong,
        }
        for row in session.exec(query.order_by(col(Rollup.start), col(Rollup.manifest)))
    ]  # fmt: skip


def _versions(session: Session, named: Sequence[tuple[str, str]]) -> list[Plain]:
    found = []
    for model, version in named:
        row = session.get(Version, (model, version))
        if row is None:
            continue
        lineage = manifest.decode(row.manifest).lineage
        found.append({
            "kind": "version", "model": model, "version": version, "status": row.status,
            "manifest_sha256": row.manifest_sha256, "pushed": row.created,
            "pushed_by": row.created_by, "source": lineage.source, "commit": lineage.commit,
            "data": lineage.data, "trained_at": lineage.trained_at, "metrics": lineage.metrics,
            "gates": row.check.get("gates", []),
        })  # fmt: skip
    return found


def _rollouts(session: Session, device: str, since: float, until: float) -> list[Plain]:
    query = (
        select(Rollout, RolloutDevice)
        .where(col(RolloutDevice.rollout) == col(Rollout.id), RolloutDevice.device == device)
        .where(col(Rollout.created) < until, col(RolloutDevice.changed_at) >= since)
        .order_by(col(Rollout.id))
    )
    found = []
    for row, own in session.exec(query).all():
        steps = session.exec(
            select(RolloutStep).where(RolloutStep.rollout == row.id).order_by(col(RolloutStep.id))
        ).all()
        found.append({
            "kind": "rollout", "rollout": row.id, "model": row.model, "version": row.version,
            "slot": row.slot, "started": row.created, "started_by": row.created_by,
            "state": row.state, "reason": row.reason, "asked": own.targeted_at,
            "device_state": own.state, "device_detail": own.detail,
            "steps": [{"at": s.at, "state": s.state, "wave": s.wave, "why": s.reason}
                      for s in steps],
        })  # fmt: skip
    return found


def _alerts(session: Session, device: str, since: float, until: float) -> list[Plain]:
    query = select(Alert).where(
        Alert.device == device,
        col(Alert.opened) < until,
        or_(col(Alert.state) != "resolved", col(Alert.updated) >= since),
    )
    return [
        {
            "kind": "alert", "alert": row.id, "what": row.kind, "severity": row.severity,
            "state": row.state, "opened": row.opened, "updated": row.updated, "title": row.title,
        }
        for row in session.exec(query.order_by(col(Alert.id)))
    ]  # fmt: skip


def _acts(session: Session, subjects: set[str], until: float) -> list[Plain]:
    """What people and the hub did to the device, its versions, rollouts and alerts."""
    return [
        {
            "kind": "act", "at": row.at, "who": row.actor, "did": row.action,
            "to": row.subject, "detail": row.detail, "audit_row": row.id, "audit_hash": row.hash,
        }
        for part in _parts(sorted(subjects))
        for row in session.exec(
            select(Audit)
            .where(col(Audit.subject).in_(part), col(Audit.at) < until)
            .order_by(col(Audit.id))
        )
    ]  # fmt: skip


def _parts(names: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), size):
        yield names[first : first + size]
