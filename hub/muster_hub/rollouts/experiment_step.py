"""What is kept of an experiment beside its rollout: who takes part, and what was found."""

from collections.abc import Sequence
from dataclasses import replace

from sqlmodel import Session

from muster_hub.rollouts import kept
from muster_hub.rollouts.experiments import SETTLED, Arms, Experiment, Result
from muster_hub.rollouts.gates.judge import Verdict
from muster_hub.rollouts.members import Judged, Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan
from muster_hub.rollouts.targets import draw_arms
from muster_hub.storage import models


def draw(session: Session, row: models.Rollout, plan: Plan, members: Sequence[Member]) -> None:
    """Fix both arms at the rollout's first step: who joins or is relabelled changes neither."""
    if plan.experiment is None or row.judged is not None or row.wave != CANARY:
        return
    drawn = draw_arms(
        StagedRollout(id=row.id or 0, state="running", wave=row.wave, plan=plan), members
    )
    if not drawn.b:
        return  # nobody to compare yet
    kept.put_judged(
        row,
        Judged(
            wave=row.wave,
            action="wait",
            reason="the experiment has not been looked at yet",
            experiment=Experiment(a=drawn.a, b=drawn.b),
        ),
    )
    session.add(row)


def arms(judged: Judged | None) -> Arms | None:
    """Who takes part, once they are drawn."""
    found = judged.experiment if judged is not None else None
    return Arms(found.a, found.b) if found else None


def after(judged: Judged | None, verdict: Verdict | Result, *, done: bool) -> Experiment | None:
    """The experiment after a look: a settled outcome stays, unless harm shows later."""
    before = judged.experiment if judged is not None else None
    if before is None or not isinstance(verdict, Result):
        return before  # a later wave's look
    outcome, reason = verdict.outcome, verdict.reason
    if before.outcome in SETTLED and verdict.action != "stop":
        outcome, reason = before.outcome, before.reason
    elif verdict.action != "stop" and (outcome in SETTLED or done):
        over = "" if outcome in SETTLED else " The last look has passed."
        reason = f"{reason}{over} Waiting for an operator: advance, or roll back."
    return replace(before, outcome=outcome, reason=reason, effects=tuple(verdict.effects))
