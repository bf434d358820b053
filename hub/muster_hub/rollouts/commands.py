"""What operators ask, as changes within the caller's transaction; the engine acts on them next."""

from dataclasses import replace

import msgspec
from sqlmodel import Session, col, select

from muster_hub.errors import Conflict, Invalid, NotFound
from muster_hub.fleet.assignments import slot_of
from muster_hub.rollouts import budgets, kept
from muster_hub.rollouts.budgets import BudgetUnit
from muster_hub.rollouts.plan import Plan, read_plan, stages
from muster_hub.storage import models
from muster_protocol.wire import agent_release, limits, selectors
from muster_protocol.wire.topics import check_name

LIVE = ("running", "paused")
RELEASED = ("signed", "published")


def start_rollout(
    session: Session,
    *,
    model: str,
    version: str,
    slot: str,
    selector: str,
    by: str,
    now: float,
    window_seconds: float | None = None,
    **plan: object,
) -> int:
    """Create a running rollout and return its number. ``plan`` are fields of ``rollouts.Plan``.

    Raises Invalid or ProtocolError for what can't be read, NotFound for an unknown version,
    Conflict for one that isn't signed, when another rollout in progress concerns the same slot of
    the same devices, or for a budget that some group of devices could never meet.
    """
    slot = slot_of(model, check_name(slot, "slot"))
    chosen = selectors.parse(selector)
    settled = read_plan({key: value for key, value in plan.items() if value is not None})
    if model == agent_release.NAME:
        _check_agent(settled, window_seconds)
    _check_window(window_seconds)
    found = session.get(models.Version, (model, version))
    if found is None:
        raise NotFound(f"there is no version {version} of model {model}")
    if found.status not in RELEASED:
        raise Conflict(
            f"{model} {version} is {found.status}, not published: only what release keys have "
            "signed can be rolled out"
        )
    _check_overlap(session, slot, chosen)
    _check_budgets(session, settled, chosen)
    row = models.Rollout(
        model=model,
        version=version,
        manifest=found.manifest_sha256,
        slot=slot,
        selector=str(chosen),
        state="running",
        plan=msgspec.to_builtins(settled),
        window_seconds=window_seconds,
        reason="Just started.",
        created=now,
        created_by=by,
        updated=now,
    )
    session.add(row)
    session.flush()
    assert row.id is not None
    _log_event(session, row, f"started by {by}", now)
    _remember(session, row, "started", f"Started by {by}.", now)
    return row.id


def pause_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """Reach no further device; those reached go on."""
    _move(session, rollout, ("running",), "paused", f"Paused by {by}.", now)


def resume_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """Let a paused rollout continue; raises Conflict in any other state."""
    _move(session, rollout, ("paused",), "running", f"Resumed by {by}.", now)


def abort_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """End it and give every device it reached back what it had."""
    reason = f"Aborted by {by}; the devices reached go back to what they had."
    _move(session, rollout, LIVE, "aborted", reason, now)


def approve_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """Let the wave that waits for it begin."""
    row = _live(session, rollout)
    if not stages(read_plan(row.plan))[row.wave].approve:
        raise Conflict(f"rollout {rollout} waits for no approval in wave {row.wave + 1}")
    if row.approved >= row.wave:
        raise Conflict(f"wave {row.wave + 1} of rollout {rollout} is approved already")
    row.approved = row.wave
    session.add(row)
    _note(session, row, "approved", f"Wave {row.wave + 1} approved by {by}.", now)


def advance_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """Pass the shadow or the present wave by hand, whatever is lacking; a stop still stops."""
    row = _live(session, rollout)
    shadow = kept.shadow(row)
    if shadow is not None and shadow.action == "wait":
        kept.put_shadow(row, replace(shadow, action="advance", reason=f"Passed by hand by {by}."))
        session.add(row)
        _note(session, row, "advanced", f"Shadow passed by hand by {by}.", now)
        return
    if row.advanced >= row.wave:
        raise Conflict(f"wave {row.wave + 1} of rollout {rollout} was passed by hand already")
    row.advanced = row.wave
    session.add(row)
    reason = f"Wave {row.wave + 1} passed by hand by {by}, without its gate's word."
    _note(session, row, "advanced", reason, now)


def rollback_rollout(session: Session, rollout: int, *, by: str, now: float) -> None:
    """Give every device it reached back what it had, also after it has completed."""
    row = _rollout(session, rollout)
    if row.state == "completed":
        _take_back(session, row)
    reason = f"Rolled back by {by}; the devices reached go back to what they had."
    _move(session, rollout, (*LIVE, "completed"), "rolled_back", reason, now)


def _take_back(session: Session, row: models.Rollout) -> None:
    """Make its assignment hold what it held before, or end it when it held nothing."""
    assignment = session.exec(
        select(models.Assignment).where(col(models.Assignment.rollout) == row.id)
    ).first()
    if assignment is None:
        raise Conflict(
            f"a later release has taken the place of rollout {row.id}: roll that one back first"
        )
    before = kept.replaced(row)
    if before is None:
        session.delete(assignment)
        return
    assignment.model, assignment.version = before.model, before.version
    assignment.rollout = before.rollout
    assignment.window_seconds = before.window_seconds
    session.add(assignment)


def acknowledge_alert(session: Session, alert: int, *, by: str, now: float) -> None:
    """Note who looks after an alert; raises NotFound, and Conflict once it is resolved."""
    row = _alert(session, alert)
    if row.state == "resolved":
        raise Conflict(f"alert {alert} is resolved already")
    _set_alert(session, row, "acknowledged", by, now)


def resolve_alert(session: Session, alert: int, *, by: str, now: float) -> None:
    """Close an alert; its cause, if it is still there, opens a new one."""
    row = _alert(session, alert)
    if row.state != "resolved":
        _set_alert(session, row, "resolved", by, now)


def _check_agent(plan: Plan, window_seconds: float | None) -> None:
    """Raise Invalid for what only a model's rollout has: an agent has no telemetry to compare."""
    asked = {
        "budgets": plan.budgets, "windows": plan.windows, "shadow": plan.shadow,
        "experiment": plan.experiment, "gate": plan.gate, "require_proof": plan.require_proof,
        "window_seconds": window_seconds,
    }  # fmt: skip
    named = [name for name, value in asked.items() if value]
    if named:
        raise Invalid(
            f"{', '.join(named)}: a rollout of the agent has waves, soaks, approvals and "
            "failures_allowed, and none of what compares models"
        )


def _check_window(seconds: float | None) -> None:
    least, most = limits.WINDOW_SECONDS_MIN, limits.WINDOW_SECONDS_MAX
    if seconds is not None and not least <= seconds <= most:
        raise Invalid(f"window_seconds {seconds}: use {least} to {most}")


def _check_budgets(session: Session, plan: Plan, selector: selectors.Selector) -> None:
    if not plan.budgets:
        return
    rows = session.exec(
        select(models.Device.id, models.Device.labels).where(
            col(models.Device.approved).is_(True), col(models.Device.revoked).is_(False)
        )
    ).all()
    units = [BudgetUnit(device, labels, online=True) for device, labels in rows
             if selector.matches(labels)]  # fmt: skip
    stuck = budgets.unsatisfiable(plan.budgets, units)
    if stuck is not None:
        raise Conflict(stuck)


def _check_overlap(session: Session, slot: str, selector: selectors.Selector) -> None:
    live = session.exec(
        select(models.Rollout).where(
            col(models.Rollout.slot) == slot, col(models.Rollout.state).in_(LIVE)
        )
    ).all()
    if not live:
        return
    labels = session.exec(select(models.Device.labels)).all()
    mine = [label for label in labels if selector.matches(label)]
    for other in live:
        theirs = selectors.parse(other.selector)
        shared = sum(1 for item in mine if theirs.matches(item))
        if shared:
            raise Conflict(
                f"rollout {other.id} ({other.model} {other.version}) is {other.state} in slot "
                f"{slot} and concerns {shared} of these devices: wait for it or abort it"
            )


def _move(
    session: Session, number: int, allowed: tuple[str, ...], state: str, reason: str, now: float
) -> None:
    row = _rollout(session, number)
    if row.state not in allowed:
        raise Conflict(f"rollout {number} is {row.state}; it would have to be {allowed[0]}")
    row.state, row.reason, row.updated = state, reason, now
    session.add(row)
    _note(session, row, state, reason, now)


def _rollout(session: Session, number: int) -> models.Rollout:
    row = session.get(models.Rollout, number, with_for_update=True)
    if row is None:
        raise NotFound(f"there is no rollout {number}")
    return row


def _live(session: Session, number: int) -> models.Rollout:
    row = _rollout(session, number)
    if row.state not in LIVE:
        raise Conflict(f"rollout {number} is {row.state}: it has ended")
    return row


def _note(session: Session, row: models.Rollout, what: str, reason: str, now: float) -> None:
    _log_event(session, row, reason, now)
    _remember(session, row, what, reason, now)


def _remember(session: Session, row: models.Rollout, what: str, reason: str, now: float) -> None:
    session.add(
        models.RolloutStep(
            rollout=row.id or 0, at=now, state=row.state, wave=row.wave, why=what, reason=reason
        )
    )


def _log_event(session: Session, row: models.Rollout, what: str, now: float) -> None:
    session.add(
        models.EventRow(
            kind="rollout",
            received=now,
            slot=row.slot,
            model=row.model,
            version=row.version,
            manifest=row.manifest,
            detail=f"rollout {row.id}: {what}",
            data={"rollout": row.id, "state": row.state, "wave": row.wave},
        )
    )


def _alert(session: Session, number: int) -> models.Alert:
    row = session.get(models.Alert, number)
    if row is None:
        raise NotFound(f"there is no alert {number}")
    return row


def _set_alert(session: Session, row: models.Alert, state: str, by: str, now: float) -> None:
    row.state, row.updated = state, now
    session.add(row)
    session.add(
        models.EventRow(
            kind="alert",
            device=row.device,
            model=str(row.detail.get("model", "")),
            received=now,
            detail=f"alert {row.id} {state} by {by}: {row.title}",
            data={"alert": row.id, "state": state},
        )
    )
