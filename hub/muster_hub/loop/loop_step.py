"""The engine's part: open the loops that drift asks for, take each open one further."""

from collections.abc import Sequence
from typing import Any, cast

from sqlmodel import Session, col, select

from muster_hub.access.leave import model_of_alert
from muster_hub.loop import loops
from muster_hub.loop.decide import LoopSeen, Memory, RunState, advance, trigger
from muster_hub.settings.loop import LoopState, LoopTerms
from muster_hub.storage.alerting import NotifierState
from muster_hub.storage.models import Alert, Rollout, Version
from muster_hub.storage.registry import LoopRow

MEMORY = "loop/"
HUB = "hub"
ALERTS_SHOWN = 20


def is_due(session: Session, terms: Sequence[LoopTerms]) -> bool:
    """Whether there is anything to look at; reads only."""
    if terms:
        return True
    running = select(LoopRow.id).where(col(LoopRow.ended).is_(None)).limit(1)
    return session.exec(running).first() is not None


def step(session: Session, terms: Sequence[LoopTerms], now: float) -> int:
    """Look, decide, persist; how many loops moved or opened."""
    moved = 0
    drifting = _drifting(session)
    for own in terms:
        row = loops.open_of(session, own.model)
        if row is not None:
            moved += _advance(session, row, own, now)
        moved += _trigger(session, own, drifting.get(own.model, []), now)
    known = {own.model for own in terms}
    for row in session.exec(select(LoopRow).where(col(LoopRow.ended).is_(None))).all():
        if row.model not in known:
            # Its terms are gone from hub.toml: it still ends, by its last deadline at the latest.
            moved += _advance(session, row, None, now)
    return moved


def _trigger(session: Session, terms: LoopTerms, alerts: list[Alert], now: float) -> int:
    name = MEMORY + terms.model
    row = session.get(NotifierState, name)
    before = Memory() if row is None else Memory(row.since, row.armed)
    devices = {alert.device for alert in alerts}
    seen = loops.seen(session, terms.model, now, len(devices))
    after, opens = trigger(terms, before, seen, now)
    if after != before:
        row = row or NotifierState(name=name)
        row.since, row.armed = after.since, after.armed
        session.add(row)
    if not opens:
        return 0
    cause = f"it drifts on {len(devices)} device(s)"
    loops.begin(session, terms, cause=cause, by=HUB, now=now, detail=_detail(alerts))
    return 1


def _detail(alerts: list[Alert]) -> dict[str, Any]:
    shown = alerts[:ALERTS_SHOWN]
    return {
        "alerts": [{"id": a.id, "device": a.device, "title": a.title} for a in shown],
        "alerts_more": len(alerts) - len(shown),
    }


def _advance(session: Session, row: LoopRow, terms: LoopTerms | None, now: float) -> int:
    """Take a loop as far as it goes now; whether it moved."""
    moved = 0
    while (move := advance(seen_of(session, row), now)) is not None:
        loops.go(session, row, terms, move, by=HUB, now=now)
        moved = 1
    return moved


def seen_of(session: Session, row: LoopRow) -> LoopSeen:
    """A loop as decisions see it."""
    version = session.get(Version, (row.model, row.version)) if row.version else None
    rollout = None
    if version is not None and row.state == "rollout":
        rollout = session.exec(
            select(Rollout)
            .where(Rollout.model == row.model, Rollout.version == row.version)
            .order_by(col(Rollout.id).desc())
        ).first()
        if rollout is not None and row.rollout != rollout.id:
            row.rollout = rollout.id
            session.add(row)
    return LoopSeen(
        state=cast("LoopState", row.state),
        deadline=row.deadline,
        approved=bool(row.approved_by),
        run=cast("RunState", row.run_state),
        run_fault=row.run_fault,
        version=row.version,
        version_status="" if version is None else version.status,
        version_reason="" if version is None else str(version.check.get("reason", "")),
        rollout_state="" if rollout is None else rollout.state,
        rollout_reason="" if rollout is None else rollout.reason,
    )


def _drifting(session: Session) -> dict[str, list[Alert]]:
    """Open alerts of drift by model."""
    query = select(Alert).where(Alert.kind == "drift", col(Alert.state) != "resolved")
    found: dict[str, list[Alert]] = {}
    for alert in session.exec(query.order_by(col(Alert.id))):
        found.setdefault(model_of_alert(alert.kind, alert.detail) or "", []).append(alert)
    return found
