"""What is kept of an experiment beside its rollout: who takes part, and what was found."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlmodel import Session

from muster_hub.rollouts.experiments import SETTLED, Arms, Result
from muster_hub.rollouts.gates.judge import Verdict
from muster_hub.rollouts.members import Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan
from muster_hub.rollouts.targets import draw_arms
from muster_hub.storage import models

Plain = dict[str, Any]


def draw(session: Session, row: models.Rollout, plan: Plan, members: Sequence[Member]) -> None:
    """Fix both arms at the rollout's first step: who joins or is relabelled changes neither."""
    if plan.experiment is None or row.judged is not None or row.wave != CANARY:
        return
    drawn = draw_arms(
        StagedRollout(id=row.id or 0, state="running", wave=row.wave, plan=plan), members
    )
    if not drawn.b:
        return  # nobody to compare yet
    row.judged = {
        "wave": row.wave,
        "look": 0,
        "action": "wait",
        "reason": "the experiment has not been looked at yet",
        "warnings": {},
        "experiment": {
            "a": list(drawn.a), "b": list(drawn.b), "outcome": "not enough evidence",
            "reason": "", "effects": [],
        },
    }  # fmt: skip
    session.add(row)


def arms(row: models.Rollout) -> Arms | None:
    found = (row.judged or {}).get("experiment")
    return Arms(tuple(found["a"]), tuple(found["b"])) if found else None


def arm_a(row: models.Rollout) -> frozenset[str]:
    found = arms(row)
    return frozenset(found.a) if found else frozenset()


def kept(row: models.Rollout, verdict: Verdict | Result, *, done: bool) -> Plain:
    """The experiment's part of what is kept: a settled outcome stays, unless harm shows later."""
    before = (row.judged or {}).get("experiment")
    if before is None:
        return {}
    if not isinstance(verdict, Result):
        return {"experiment": before}  # a later wave's look
    outcome, reason = verdict.outcome, verdict.reason
    if before["outcome"] in SETTLED and verdict.action != "stop":
        outcome, reason = before["outcome"], before["reason"]
    elif verdict.action != "stop" and (outcome in SETTLED or done):
        over = "" if outcome in SETTLED else " The last look has passed."
        reason = f"{reason}{over} Waiting for an operator: advance, or roll back."
    effects = [asdict(effect) for effect in verdict.effects]
    return {"experiment": before | {"outcome": outcome, "reason": reason, "effects": effects}}
