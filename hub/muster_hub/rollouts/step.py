"""One step of every rollout that still moves, within the engine's transaction."""

from collections.abc import Mapping

from sqlalchemy import bindparam, func
from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from muster_hub.fleet.known import Known
from muster_hub.rollouts import decide, experiment_step, gate_step, kept, load, shadow_step
from muster_hub.rollouts.decide import Decision
from muster_hub.rollouts.kept import Replaced
from muster_hub.rollouts.members import WITHDRAWN, Reached
from muster_hub.storage import models
from muster_hub.storage.care import Care

FOLLOW_SECONDS = 30 * 86_400
"""How long a completed rollout still counts devices that converge later."""
LOOKED_SECONDS = 10.0
"""How exactly it is remembered when a rollout was last decided about."""


def step(
    session: Session,
    known: Mapping[str, Known],
    now: float,
    window_seconds: float,
    care: Care | None = None,
) -> bool:
    """Decide and persist; whether any device may need another directive.

    ``window_seconds`` is how long telemetry windows are where a rollout doesn't say. With care a
    rollout that fails is left as it stands, and the others go on.
    """
    changed = False

    def advance(row: models.Rollout) -> None:
        nonlocal changed
        reached = load.reached_rows(session, row.id or 0)
        members = load.members(session, row, reached, known)
        plan = load.plan(row)
        if row.state in ("running", "paused"):
            experiment_step.draw(session, row, plan, members)
            window = row.window_seconds or window_seconds
            before = kept.judged(row)
            warned = set(before.warnings) if before and before.wave == row.wave else set()
            if gate_step.look(session, row, plan, members, window, now):
                _remember_look(session, row, now, warned)
            if shadow_step.look(session, row, plan, known, window, now):
                changed = True
        decision = decide.decide(load.rollout(row), members, now)
        changed |= _persist(session, row, reached, known, decision, now)

    (care or Care()).each(session, _moving(session, now), advance, lambda row: f"rollout {row.id}")
    return changed


def _having(*states: str) -> SelectOfScalar[int]:
    """Rollouts with a device in one of these states."""
    reached = models.RolloutDevice
    return select(reached.rollout).where(col(reached.state).in_(states)).distinct()


_STATE, _ID = col(models.Rollout.state), col(models.Rollout.id)
_MOVING = (
    select(models.Rollout)
    .where(
        or_(
            _STATE.in_(("running", "paused")),
            (_STATE == "completed")
            & _ID.in_(_having("targeted", "in_progress"))
            & (col(models.Rollout.updated) > bindparam("followed_since")),
            _STATE.in_(tuple(WITHDRAWN)) & _ID.in_(_having("targeted", "in_progress", "committed")),
        )
    )
    .order_by(_ID)
    .with_for_update()
)
_LATEST = (
    select(models.RolloutStep.state, models.RolloutStep.wave, models.RolloutStep.why)
    .where(
        col(models.RolloutStep.rollout) == bindparam("rollout"),
        col(models.RolloutStep.why) != "warning",
    )
    .order_by(col(models.RolloutStep.id).desc())
    .limit(1)
)


def _moving(session: Session, now: float) -> list[models.Rollout]:
    return list(session.exec(_MOVING, params={"followed_since": now - FOLLOW_SECONDS}))


def _persist(
    session: Session,
    row: models.Rollout,
    reached: Mapping[str, models.RolloutDevice],
    known: Mapping[str, Known],
    decision: Decision,
    now: float,
) -> bool:
    for device, after in decision.changed.items():
        _write_reached(session, reached[device], after)
    for device in decision.target:
        session.add(
            models.RolloutDevice(
                rollout=row.id or 0,
                device=device,
                wave=decision.wave,
                state="targeted",
                targeted_at=now,
                online_since=now if known[device].online else None,
                changed_at=now,
            )
        )
    watching = shadow_step.keep(row, decision.shadow, now)
    moved = decision.state != row.state or decision.wave != row.wave
    ended = decision.state == "completed" and row.state != "completed"
    if moved or decision.target:
        _log_event(session, row, decision, now)
    _remember(session, row, decision, now)
    if moved:
        row.updated, row.wave_since = now, None
    if decision.target and row.wave_since is None:
        row.wave_since = now
    row.reason = decision.reason or row.reason
    row.state, row.wave = decision.state, decision.wave
    row.settled_at = decision.settled_at
    if row.looked_at is None or not 0 <= now - row.looked_at < LOOKED_SECONDS:
        row.looked_at = now
    session.add(row)
    if ended:
        assign(session, row, now)
    session.flush()
    return moved or watching or bool(decision.target) or bool(decision.changed)


def _remember(session: Session, row: models.Rollout, decision: Decision, now: float) -> None:
    """Write history: whom it asks, what it waits for now, how it ended."""
    if not decision.reason:
        return
    latest = session.exec(_LATEST, params={"rollout": row.id}).first()
    same = latest is not None and tuple(latest) == (decision.state, decision.wave, decision.why)
    if same and not decision.target:
        return
    session.add(
        models.RolloutStep(
            rollout=row.id or 0,
            at=now,
            state=decision.state,
            wave=decision.wave,
            why=decision.why,
            reason=decision.reason,
            devices=list(decision.target),
        )
    )


def _remember_look(session: Session, row: models.Rollout, now: float, warned: set[str]) -> None:
    """Write down what the gate said, and of what it warns for the first time."""
    judged = kept.judged(row)
    assert judged is not None, "it has just been looked at"
    lines = [("gate", f"Look {judged.look}: {judged.reason}")]
    lines += [
        ("warning", f"Look {judged.look} warns: {words}")
        for name, words in judged.warnings.items()
        if name not in warned
    ]
    for why, reason in lines:
        session.add(
            models.RolloutStep(
                rollout=row.id or 0, at=now, state=row.state, wave=row.wave, why=why, reason=reason
            )
        )
    session.flush()


def _write_reached(session: Session, row: models.RolloutDevice, after: Reached) -> None:
    row.state = after.state
    row.online_since = after.online_since
    row.online_seconds = after.online_seconds
    row.changed_at = after.changed_at
    row.detail = after.detail
    session.add(row)


def assign(session: Session, row: models.Rollout, now: float) -> None:
    """Make a completed rollout's release what its selector gets, devices to come included."""
    found = session.exec(
        select(models.Assignment).where(
            col(models.Assignment.slot) == row.slot, col(models.Assignment.selector) == row.selector
        )
    ).first()
    highest = session.exec(select(func.max(models.Assignment.precedence))).one() or 0
    assignment = found or models.Assignment(
        slot=row.slot,
        selector=row.selector,
        model=row.model,
        version=row.version,
        precedence=0,
        created=now,
    )
    if found is not None:
        before = Replaced(
            model=found.model, version=found.version, rollout=found.rollout,
            window_seconds=found.window_seconds,
        )  # fmt: skip
        kept.put_replaced(row, before)
    assignment.model, assignment.version = row.model, row.version
    assignment.precedence = highest + 1
    assignment.window_seconds = row.window_seconds
    assignment.rollout = row.id
    session.add(assignment)


def _log_event(session: Session, row: models.Rollout, decision: Decision, now: float) -> None:
    session.add(
        models.EventRow(
            kind="rollout",
            received=now,
            slot=row.slot,
            model=row.model,
            version=row.version,
            manifest=row.manifest,
            detail=f"rollout {row.id}: {decision.reason or decision.state}",
            data={"rollout": row.id, "state": decision.state, "wave": decision.wave},
        )
    )
