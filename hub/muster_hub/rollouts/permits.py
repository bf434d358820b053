"""Swap permits: a device asks at the moment of swapping, the hub gives within budgets. Pure.

A permit (``Grant`` on the wire) lapses on the device's own clock, so the hub can't know whether a
silent device used it: the device counts as down until it shows otherwise.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muster_hub.rollouts import budgets, maintenance
from muster_hub.rollouts.budgets import BudgetUnit
from muster_hub.rollouts.plan import Plan

VALID_SECONDS = 60.0
"""How long a permit is good for, counted by the device from when it asked."""
RETRY_SECONDS = 10.0
THROUGH = frozenset({"idle", "committed", "failed"})
SWAPPING = frozenset({"starting", "probation", "rolling_back"})


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What a slot of a device was last given."""

    device: str
    slot: str
    manifest: str
    given_at: float


@dataclass(frozen=True, kw_only=True)
class PermitRequest:
    """What a device asks when it is ready to swap."""

    device: str
    slot: str
    manifest: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the device's live directive asks of the slot, and on whose behalf."""

    manifest: str
    generation: int
    plan: Plan | None
    """Of the rollout that brought it; None when none did, or when the device is going back."""
    held: str = ""
    """Why nobody may swap for now, such as a paused rollout; empty when they may."""


@dataclass(frozen=True)
class Answer:
    """A permit, or why there is none yet."""

    given: bool
    reason: str = ""


def is_down(permit: Permit, report: Mapping[str, Any] | None, reported: float | None) -> bool:
    """Whether a device that was given a permit still counts as down.

    It is through when a report that came since shows the new model settled, for good or bad, or,
    once the permit has surely lapsed, shows that no swap is under way.
    """
    if report is None or reported is None or reported <= permit.given_at:
        return True
    update = ((report.get("slots") or {}).get(permit.slot) or {}).get("update") or {}
    state = update.get("state", "idle")
    if update.get("manifest") == permit.manifest and state in THROUGH:
        return False
    lapsed = reported > permit.given_at + 2 * VALID_SECONDS
    return not (lapsed and state not in SWAPPING)


def answer(
    asked: PermitRequest,
    goal: Goal | None,
    units: Collection[BudgetUnit],
    down: Iterable[str],
    now: float,
) -> Answer:
    """Whether the device may swap now. ``down`` are devices that count as down for any reason.

    ``units`` are the devices that the goal's rollout concerns, the asking one among them.
    """
    if goal is None or (goal.manifest, goal.generation) != (asked.manifest, asked.generation):
        return Answer(given=False, reason="a newer directive is on its way")
    if goal.plan is None:
        return Answer(given=True)
    if goal.held:
        return Answer(given=False, reason=goal.held)
    labels = next(unit.labels for unit in units if unit.device == asked.device)
    why = maintenance.refusal(goal.plan.windows, labels, now) or budgets.refusal(
        goal.plan.budgets, units, set(down), asked.device
    )
    return Answer(given=why is None, reason=why or "")
