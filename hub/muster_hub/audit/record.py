"""A device's record for an auditor: what ran when, from which data, on whose approval, until when.

Each line is one fact with its source in the hub's tables; what the hub doesn't know is not filled
in. Times are seconds since 1970 by the hub's clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlmodel import Session, col, func, or_, select

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
from muster_hub.storage.registry import LoopRow
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_protocol.wire import agent_release, manifest, selectors
from muster_protocol.wire.manifest import Lineage

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
    trained = sorted({model for model, _ in versions})
    loops = _loops(session, trained, since, until)
    policies = _sampling(session, device, trained, since, until)
    found += _versions(session, versions) + rollouts + alerts + loops + policies
    subjects = {
        device.id,
        *(f"{model}/{version}" for model, version in versions),
        *(f"{line['kind']}/{line[line['kind']]}" for line in (*rollouts, *alerts, *loops)),
        *(f"sampling/{line['policy']}" for line in policies),
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
        agent = model == agent_release.NAME
        lineage = Lineage() if agent else manifest.decode(row.manifest).lineage
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


def _loops(session: Session, trained: Sequence[str], since: float, until: float) -> list[Plain]:
    """Retrainings of the models that the device had, ended in failure or not."""
    query = select(LoopRow).where(
        col(LoopRow.model).in_(trained),
        col(LoopRow.opened) < until,
        or_(col(LoopRow.ended).is_(None), col(LoopRow.ended) >= since),
    )
    return [
        {
            "kind": "loop", "loop": row.id, "model": row.model, "opened": row.opened,
            "cause": row.cause, "opened_by": row.opened_by,
            "alerts": [alert["id"] for alert in row.detail.get("alerts", ())],
            "approved_by": row.approved_by, "pipeline": row.pipeline, "run": row.run,
            "run_url": row.run_url, "candidate": row.version, "rollout": row.rollout,
            "state": row.state, "reason": row.reason, "ended": row.ended, "steps": row.history,
        }
        for row in session.exec(query.order_by(col(LoopRow.id)))
    ]  # fmt: skip


def _sampling(
    session: Session, device: Device, trained: Sequence[str], since: float, until: float
) -> list[Plain]:
    """Policies that asked the device for rows of what its models saw, and how many it sent."""
    policy = SamplingPolicyRow
    query = select(policy).where(
        col(policy.model).in_(trained),
        col(policy.created) < until,
        or_(col(policy.ended).is_(None), col(policy.ended) >= since),
    )
    rows = session.exec(query.order_by(col(policy.id))).all()
    counted = select(SampleRow.policy, func.count()).where(SampleRow.device == device.id)
    sent = dict(session.exec(counted.group_by(col(SampleRow.policy))).all())
    return [
        {
            "kind": "sampling", "policy": row.id, "model": row.model, "version": row.version,
            "begun": row.created, "begun_by": row.created_by, "reason": row.reason,
            "asked": row.asked, "selector": row.selector, "expires": row.expires,
            "ended": row.ended, "ended_by": row.ended_by, "ended_reason": row.ended_reason,
            "rows_of_device": sent.get(row.id or 0, 0),
        }
        for row in rows
        if row.id in sent or selectors.parse(row.selector).matches(device.labels)
    ]  # fmt: skip


def _acts(session: Session, subjects: set[str], until: float) -> list[Plain]:
    """What people and the hub did to the device and to all that is told of it."""
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
