"""Rollouts as they are shown. Nothing here writes."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sqlalchemy import select as columns_of
from sqlmodel import Session, col, func, or_, select

from muster_hub.access import scoped
from muster_hub.access.scope import Scope
from muster_hub.fleet.known import heard
from muster_hub.rollouts import comparisons, kept
from muster_hub.rollouts.members import Judged
from muster_hub.rollouts.plan import read_plan, stages
from muster_hub.storage import models

HISTORY_MAX = 500

Plain = dict[str, Any]


def rollouts(session: Session, scope: Scope, *, before: int | None, limit: int) -> list[Plain]:
    """Rollouts within a scope without their devices, the newest first."""
    row = models.Rollout
    query = columns_of(col(row.id), col(row.model), col(row.selector)).order_by(col(row.id).desc())
    if before is not None:
        query = query.where(col(row.id) < before)
    seen = scoped.within(session, query, scope, limit)
    found = session.exec(select(row).where(col(row.id).in_(seen)).order_by(col(row.id).desc()))
    return [_without_pictures(item.model_dump()) for item in found]


def going(session: Session, scope: Scope, *, limit: int) -> list[Plain]:
    """The rollouts within a scope that have not ended, in few words, the newest first."""
    row = models.Rollout
    query = (
        columns_of(col(row.id), col(row.model), col(row.selector))
        .where(col(row.state).in_(("running", "paused")))
        .order_by(col(row.id).desc())
    )
    seen = scoped.within(session, query, scope, limit)
    found = session.exec(select(row).where(col(row.id).in_(seen)).order_by(col(row.id).desc()))
    shown = {"id", "model", "version", "selector", "state", "reason"}
    return [item.model_dump(include=shown) for item in found]


def _without_pictures(item: Plain) -> Plain:
    """As lists have it: what a gate saw at each look stands with the one rollout alone."""
    judged = dict(item["judged"] or {})
    judged.pop("pictures", None)
    return item | {"judged": judged if item["judged"] is not None else None}


def rollout(
    session: Session, rollout: int, now: float, *, devices_max: int | None = None
) -> Plain | None:
    """A rollout with its waves, and in each its devices, what became of them and why.

    With ``devices_max`` no more devices than that, the first waves' first; the counts are of all.
    """
    row = session.get(models.Rollout, rollout)
    if row is None:
        return None
    waves: list[Plain] = [
        {"wave": wave, "name": stage.name, "counts": {}, "devices": []}
        for wave, stage in enumerate(stages(read_plan(row.plan)))
    ]
    for wave, state, count in _counts(session, rollout):
        waves[wave]["counts"][state] = count
    for device in _devices(session, rollout, now, devices_max):
        waves[device.pop("wave")]["devices"].append(device)
    judged = kept.judged(row)
    return row.model_dump() | {
        "waves": waves,
        "shadow": _shadow(session, row),
        "experiment": _experiment(judged),
        "ended": row.state not in ("running", "paused"),
        "warnings": sorted(judged.warnings.values() if judged else ()),
        "history": _history(session, rollout),
        "permits": _permits(session, row),
    }


def still_on(session: Session, rollout: int, *, limit: int) -> tuple[int, list[str]]:
    """How many devices a rollout reached and didn't withdraw from, and the first of them."""
    row = models.RolloutDevice
    among = (col(row.rollout) == rollout, col(row.state) != "withdrawn")
    names = session.exec(select(row.device).where(*among).order_by(col(row.device)).limit(limit))
    count = session.exec(select(func.count()).select_from(row).where(*among)).one()
    return count, list(names)


def _counts(session: Session, rollout: int) -> list[tuple[int, str, int]]:
    """Wave, state of a device and how many are in it, by their order."""
    row = models.RolloutDevice
    keys = (col(row.wave), col(row.state))
    query = columns_of(*keys, func.count()).where(col(row.rollout) == rollout)
    found = session.connection().execute(query.group_by(*keys).order_by(*keys))
    return [(wave, state, count) for wave, state, count in found]


def _devices(
    session: Session, rollout: int, now: float, devices_max: int | None
) -> Iterator[Plain]:
    """Plain columns: a rollout may reach ten thousand devices, whose reports nobody asks for."""
    row, device = models.RolloutDevice, models.Device
    shown = [name for name in row.model_fields if name != "rollout"]
    query = (
        columns_of(*(col(getattr(row, name)) for name in shown),
                   col(device.online), col(device.last_seen))
        .join(device, col(device.id) == col(row.device))
        .where(col(row.rollout) == rollout)
        .order_by(col(row.wave), col(row.device))
        .limit(devices_max)
    )  # fmt: skip
    for *values, connected, last_seen in session.connection().execute(query).all():
        found = dict(zip(shown, values, strict=True))
        found["online"] = online = heard(connected, last_seen, now)
        if found["state"] in ("targeted", "in_progress") and not online:
            found["detail"] = "waiting until it is back"
        yield found


def _shadow(session: Session, row: models.Rollout) -> Plain | None:
    """The shadow before the first wave, with what each of its devices has compared."""
    shadow = kept.shadow(row)
    if shadow is None:
        return None
    sums = comparisons.compared(session, shadow.devices, manifest=row.manifest, since=shadow.since)
    nothing: Plain = dict.fromkeys(comparisons.COUNTS, 0)
    devices = [{"device": device, **nothing} | sums.get(device, {}) for device in shadow.devices]
    shown = {"since": shadow.since, "action": shadow.action, "reason": shadow.reason}
    return shown | {"devices": devices}


def _experiment(judged: Judged | None) -> Plain | None:
    """How large each arm is, and what was found."""
    found = judged.experiment if judged is not None else None
    if found is None:
        return None
    shown: Plain = asdict(found)
    return shown | {"a": len(found.a), "b": len(found.b)}


def _history(session: Session, rollout: int) -> list[Plain]:
    """What it did and waited for, the oldest first; the newest ``HISTORY_MAX`` of it."""
    found = session.exec(
        select(models.RolloutStep)
        .where(col(models.RolloutStep.rollout) == rollout)
        .order_by(col(models.RolloutStep.id).desc())
        .limit(HISTORY_MAX)
    ).all()
    return [row.model_dump(exclude={"rollout"}) for row in reversed(found)]


def _permits(session: Session, rollout: models.Rollout) -> list[Plain]:
    """Who was given a permit to swap and counts as down, and who was refused, and why."""
    grant = models.SwapGrant
    found = session.exec(
        select(grant)
        .where(
            col(grant.slot) == rollout.slot,
            or_(
                col(grant.given_manifest) == rollout.manifest,
                col(grant.manifest) == rollout.manifest,
            ),
            or_(col(grant.given_at).is_not(None), col(grant.reason) != ""),
        )
        .order_by(col(grant.device))
        .limit(HISTORY_MAX)
    ).all()
    return [
        {
            "device": row.device,
            "asked_at": row.asked_at,
            "given_at": row.given_at,
            "reason": row.reason,
        }
        for row in found
    ]
