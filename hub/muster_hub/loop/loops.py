"""Loops as rows: opening one, acts of people on it, its history; in the caller's session."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from muster_hub.audit import log
from muster_hub.errors import Conflict, NotFound
from muster_hub.loop.decide import MONTH_SECONDS, LoopMove, ModelSeen, held_back, seconds_of
from muster_hub.settings.loop import ENDED, LoopTerms
from muster_hub.storage.models import Rollout, Version
from muster_hub.storage.registry import LoopRow

HISTORY_MAX = 64
LIVE = ("running", "paused")


def terms_of(loops: Sequence[LoopTerms], model: str) -> LoopTerms:
    """A model's terms; raises NotFound."""
    found = next((terms for terms in loops if terms.model == model), None)
    if found is None:
        raise NotFound(f"hub.toml has no [[loops]] entry for the model {model!r}")
    return found


def find(session: Session, number: int) -> LoopRow:
    """A loop by its number; raises NotFound."""
    row = session.get(LoopRow, number)
    if row is None:
        raise NotFound(f"there is no loop {number}")
    return row


def open_of(session: Session, model: str) -> LoopRow | None:
    """The open loop of a model; None: none is."""
    query = select(LoopRow).where(LoopRow.model == model, col(LoopRow.ended).is_(None))
    return session.exec(query).first()


def seen(session: Session, model: str, now: float, drifting: int = 0) -> ModelSeen:
    """A model as far as opening a loop goes by it."""
    own = LoopRow.model == model
    runs = select(func.count()).select_from(LoopRow)
    runs = runs.where(own, col(LoopRow.run) != "", col(LoopRow.opened) >= now - MONTH_SECONDS)
    rollout = session.exec(
        select(Rollout.id).where(Rollout.model == model, col(Rollout.state).in_(LIVE))
    ).first()
    return ModelSeen(
        drifting=drifting,
        open=open_of(session, model) is not None,
        busy=f"rollout {rollout} of it is under way" if rollout is not None else "",
        runs=session.exec(runs).one(),
        ended=session.exec(select(func.max(LoopRow.ended)).where(own)).one(),
    )


def begin(
    session: Session,
    terms: LoopTerms,
    *,
    cause: str,
    by: str,
    now: float,
    detail: Mapping[str, Any],
) -> LoopRow:
    """Open a loop; it waits for approval unless its terms ask for none."""
    row = LoopRow(
        model=terms.model,
        state="wanted",
        opened=now,
        since=now,
        deadline=now + seconds_of(terms, "wanted"),
        cause=cause,
        opened_by=by,
        detail=dict(detail),
        approved_by="" if terms.approval else "hub.toml",
        pipeline=terms.pipeline,
        history=[{"at": now, "state": "wanted", "reason": cause, "by": by}],
    )
    session.add(row)
    session.flush()
    _record(session, row, by, "loop.open", now, cause=cause)
    return row


def start(session: Session, terms: LoopTerms, *, reason: str, by: str, now: float) -> LoopRow:
    """Open a loop by hand, without drift. Raises Conflict where none may open now."""
    why = held_back(terms, seen(session, terms.model, now), now)
    if why:
        raise Conflict(f"no loop of {terms.model} can be opened: {why}")
    return begin(session, terms, cause=reason or "opened by hand", by=by, now=now, detail={})


def approve(session: Session, row: LoopRow, by: str, now: float) -> None:
    """Let the training start. Raises Conflict in any other state."""
    if row.state != "wanted":
        raise Conflict(f"loop {row.id} is {row.state}: it waits for no approval")
    row.approved_by = by
    session.add(row)
    _record(session, row, by, "loop.approve", now)


def abandon(session: Session, row: LoopRow, by: str, reason: str, now: float) -> None:
    """End it. Raises Conflict when it has ended."""
    _check_open(row)
    go(session, row, None, LoopMove("abandoned", reason or "ended by hand"), by=by, now=now)


def name_candidate(session: Session, row: LoopRow, version: str, by: str, now: float) -> None:
    """Say which version the training made. Raises Conflict, and NotFound for an unknown one."""
    _check_open(row)
    if row.version == version:
        return
    if row.state != "training":
        raise Conflict(f"loop {row.id} is {row.state}: it takes no candidate")
    found = session.get(Version, (row.model, version))
    if found is None:
        raise NotFound(f"there is no version {version!r} of a model {row.model!r}: push it first")
    if found.created < row.opened:
        raise Conflict(f"{row.model} {version} was pushed before loop {row.id} was opened")
    row.version = version
    session.add(row)
    _record(session, row, by, "loop.candidate", now, version=version)


def go(
    session: Session, row: LoopRow, terms: LoopTerms | None, move: LoopMove, *, by: str, now: float
) -> None:
    """Take a loop to its next state, and note why."""
    row.state, row.since, row.reason = move.state, now, move.reason
    if move.state in ENDED:
        row.ended = now
    elif terms is not None:
        row.deadline = now + seconds_of(terms, move.state)
    step = {"at": now, "state": move.state, "reason": move.reason, "by": by}
    row.history = [*row.history, step][-HISTORY_MAX:]
    session.add(row)
    _record(session, row, by, f"loop.{move.state}", now, reason=move.reason)


def _check_open(row: LoopRow) -> None:
    if row.ended is not None:
        raise Conflict(f"loop {row.id} has ended: it is {row.state}")


def _record(
    session: Session, row: LoopRow, by: str, action: str, now: float, **detail: Any
) -> None:
    subject = f"loop/{row.id}"
    log.append(
        session, actor=by, action=action, subject=subject, now=now, model=row.model, **detail
    )
