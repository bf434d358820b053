"""Let a rollout's gate look at the evidence once a window, and keep what it says.

Devices that have the release are compared with devices of the same rollout that don't have it yet,
over the same hours, each scored against its own past from before the rollout began.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from sqlmodel import Session

from muster_hub.rollouts import experiment_step, kept
from muster_hub.rollouts.experiments import Result, judge_experiment
from muster_hub.rollouts.gates import custom, picture, sums
from muster_hub.rollouts.gates.installs import Installs
from muster_hub.rollouts.gates.judge import Evidence, Gate, Verdict, checkpoints, judge
from muster_hub.rollouts.gates.look import Look, Reading
from muster_hub.rollouts.gates.metrics.registry import METRICS
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.rollouts.gates.readings import Received
from muster_hub.rollouts.members import Judged, Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan, stages
from muster_hub.rollouts.targets import draw
from muster_hub.storage import models

ARM_MAX = 500
"""Devices compared in an arm; beyond this more don't sharpen what is seen."""
SILENT_WINDOWS = 1.5
"""A device is silent while it has sent none, or when its last ended longer ago than this many."""


def look(
    session: Session,
    row: models.Rollout,
    plan: Plan,
    members: Sequence[Member],
    window_seconds: float,
    now: float,
) -> bool:
    """Judge, if a window has passed since the last look; whether it was judged anew."""
    gate_plan = plan.gate
    last = row.wave == len(stages(plan)) - 1
    if gate_plan is None or row.wave_since is None or last:
        return False
    latest = kept.judged(row)
    before = latest if latest and latest.wave == row.wave else None
    seen = before.look if before else 0
    passed = int((now - row.wave_since) // window_seconds)
    gate = rules(plan, gate_plan, row.wave, window_seconds)
    if passed <= seen or seen >= gate.looks or (before and before.action == "stop"):
        return False
    missed = [checkpoint for checkpoint in checkpoints(gate.looks) if seen < checkpoint <= passed]
    this = missed[-1] if missed else min(passed, gate.looks)
    evidence = _evidence(session, row, plan, gate_plan, members, window_seconds, this, now)
    experimental = plan.experiment is not None and row.wave == CANARY
    verdict = judge_experiment(gate, evidence) if experimental else judge(gate, evidence)
    pictures = before.pictures if before else ()
    if isinstance(verdict, Verdict):
        pictures = picture.after(pictures, gate, evidence, verdict.findings)
    looked = max(this, min(passed, gate.looks))
    experiment = experiment_step.after(latest, verdict, done=looked >= gate.looks)
    reason = experiment.reason if experiment and isinstance(verdict, Result) else verdict.reason
    kept.put_judged(
        row,
        Judged(
            wave=row.wave,
            look=looked,
            action=verdict.action,
            reason=reason,
            warnings={**verdict.warnings, **(before.warnings if before else {})},
            experiment=experiment,
            pictures=pictures,
        ),
    )
    session.add(row)
    return True


def rules(plan: Plan, gate_plan: GatePlan, wave: int, window_seconds: float) -> Gate:
    """What holds in a wave: an experiment has looks of its own, the last not before its time."""
    gate = gate_plan.gate()
    if wave == CANARY and plan.experiment is not None:
        least = math.ceil(plan.experiment.min_seconds / window_seconds)
        return replace(gate, looks=max(plan.experiment.looks, least))
    return gate


def _evidence(
    session: Session,
    row: models.Rollout,
    plan: Plan,
    gate_plan: GatePlan,
    members: Sequence[Member],
    window_seconds: float,
    this: int,
    now: float,
) -> Evidence:
    """What has come until now, of the devices with the release and of those without."""
    assert row.wave_since is not None
    canaries = [
        member for member in members if member.reached and member.reached.state == "committed"
    ]
    controls = [member for member in members if member.matches and not member.reached]
    experiment = plan.experiment if row.wave == CANARY else None
    if experiment is not None:
        arms = experiment_step.arms(kept.judged(row))
        arm = frozenset(arms.a) if arms else frozenset()
        controls = [control for control in controls if control.device in arm]
    canaries, controls = _some(row, plan, canaries), _some(row, plan, controls)
    begun = {canary.device: max(row.wave_since, canary.reached.changed_at) for canary in canaries
             if canary.reached}  # fmt: skip
    counts = sorted({name for metric in gate_plan.names for name in METRICS[metric].counts})
    since, until = row.wave_since, now + 1.0
    new = sums.read(
        session, begun, model=row.model, since=since, until=until, counts=counts,
        manifest=row.manifest,
    )  # fmt: skip
    names = [control.device for control in controls]
    old = sums.read(
        session, names, model=row.model, since=since, until=until, counts=counts,
        other_than=row.manifest,
    )  # fmt: skip
    whole = _expected(since, now, window_seconds)
    seen = Look(
        canaries=canaries,
        controls=controls,
        strata=plan.groups,
        now=new | old,
        past=sums.read(
            session, [*begun, *names], model=row.model, since=row.created - gate_plan.past_seconds,
            until=row.created, counts=counts,
        ),
        expected={device: _expected(at, now, window_seconds) for device, at in begun.items()}
        | dict.fromkeys(names, whole),
        past_expected=gate_plan.past_seconds / window_seconds,
        window_seconds=window_seconds,
        source=Received(
            session=session, rollout=row.id or 0, model=row.model, manifest=row.manifest,
            created=row.created, since=since, past_seconds=gate_plan.past_seconds, begun=begun,
            controls=names,
        ),
    )  # fmt: skip
    data = readings_of(gate_plan, seen)
    quiet_since = now - SILENT_WINDOWS * window_seconds
    silent = sum(1 for device in begun if device not in new or new[device].until < quiet_since)
    return Evidence(
        look=this,
        data=data,
        canaries=len(canaries),
        silent=silent,
        device_hours=sum(item.seconds for item in new.values()) / 3600,
        soaked=experiment is None or now - row.wave_since >= experiment.min_seconds,
        installs=_installs(plan, members),
    )


def readings_of(plan: GatePlan, look: Look) -> dict[str, Reading]:
    """What was received of each metric that the plan names, by the name of its rule."""
    found: dict[str, Reading | None] = {}
    for name in plan.names:
        metric = METRICS[name]
        found[metric.rule(plan).name] = metric.read(look, plan)
    for own in plan.custom:
        found[own.name] = custom.read(own, look)
    return {name: reading for name, reading in found.items() if reading is not None}


def _some(row: models.Rollout, plan: Plan, side: list[Member]) -> list[Member]:
    """At most ``ARM_MAX`` of an arm, by lot."""
    if len(side) <= ARM_MAX:
        return side
    drawn = set(
        draw(StagedRollout(id=row.id or 0, state="running", wave=0, plan=plan), side)[:ARM_MAX]
    )
    return [item for item in side if item.device in drawn]


def _expected(since: float, now: float, window_seconds: float) -> float:
    """Windows that should have come by now, the one that is open not counted."""
    return max((now - since) / window_seconds - 1.0, 0.0)


def _installs(plan: Plan, members: Sequence[Member]) -> Installs:
    """How the installs of all waves ended, in that order."""
    ended = sorted(
        (
            (member.reached.changed_at, member.device, member)
            for member in members
            if member.reached and member.reached.state in ("committed", "failed")
        ),
        key=lambda entry: entry[:2],
    )
    sites: dict[tuple[str, ...], int] = {}
    for _, _, item in ended:
        site = tuple(item.labels.get(key, "") for key in plan.groups) or (item.device,)
        sites[site] = sites.get(site, 0) + 1
    failed = tuple(bool(item.reached and item.reached.state == "failed") for _, _, item in ended)
    return Installs(failed=failed, per_site=tuple(sites.values()))
