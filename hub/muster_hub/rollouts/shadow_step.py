"""Let a rollout's shadow look at what was compared, once a window, and keep what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlmodel import Session

from muster_hub.fleet.known import Known
from muster_hub.rollouts import comparisons, kept, shadows
from muster_hub.rollouts.plan import Plan
from muster_hub.rollouts.shadows import Shadow, Watched
from muster_hub.storage import models


def keep(row: models.Rollout, devices: Sequence[str], now: float) -> bool:
    """Write down which devices watch; whether some were added."""
    before = kept.shadow(row)
    if not devices or (before is not None and len(before.devices) == len(devices)):
        return False
    shadow = before or Shadow(devices=(), since=now)
    kept.put_shadow(row, replace(shadow, devices=tuple(devices)))
    return True


def look(
    session: Session,
    row: models.Rollout,
    plan: Plan,
    known: Mapping[str, Known],
    window_seconds: float,
    now: float,
) -> bool:
    """Judge, if something new may be known; whether the shadow has ended by it.

    Devices that have refused it end it at once; all else is looked at once a window.
    """
    shadow = kept.shadow(row)
    if plan.shadow is None or shadow is None or shadow.action != "wait":
        return False
    passed = int((now - shadow.since) // window_seconds)
    watched = _watched(session, row, shadow, known)
    refused = any(challenger.state == "failed" for challenger in watched)
    if passed <= shadow.look and not refused:
        return False
    found = shadows.judge(
        plan.shadow,
        watched,
        elapsed_seconds=now - shadow.since,
        look=max(passed, 1),
        failures_allowed=plan.failures_allowed,
    )
    kept.put_shadow(row, replace(shadow, look=passed, action=found.action, reason=found.reason))
    session.add(row)
    if found.action == "advance":
        _remember(session, row, f"Shadow passed: {found.reason}", now)
    return found.action != "wait"


def _remember(session: Session, row: models.Rollout, reason: str, now: float) -> None:
    session.add(
        models.RolloutStep(
            rollout=row.id or 0, at=now, state=row.state, wave=row.wave, why="shadow passed",
            reason=reason,
        )
    )  # fmt: skip


def _watched(
    session: Session, row: models.Rollout, shadow: Shadow, known: Mapping[str, Known]
) -> list[Watched]:
    sums = comparisons.compared(session, shadow.devices, manifest=row.manifest, since=shadow.since)
    found = []
    for device in shadow.devices:
        report = known[device].report if device in known else None
        state, detail = shadows.reported_challenger(
            (report or {}).get("slots"), row.slot, row.manifest
        )
        found.append(Watched(device=device, state=state, detail=detail, **sums.get(device, {})))
    return found
