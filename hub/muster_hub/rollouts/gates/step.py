"""Let a rollout's gate look at the evidence once a window, and keep what it says.

Devices that have the release are compared with devices of the same rollout that don't have it yet,
over the same hours, each scored against its own past from before the rollout began.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from sqlmodel import Session

from muster_hub.rollouts import experiment_step
from muster_hub.rollouts.experiments import Result, judge_experiment
from muster_hub.rollouts.gates import custom, readings
from muster_hub.rollouts.gates.installs import Installs
from muster_hub.rollouts.gates.judge import (
    DRIFT,
    Evidence,
    Gate,
    Pairs,
    Rates,
    Shifts,
    Verdict,
    checkpoints,
    judge,
)
from muster_hub.rollouts.gates.statistics import Arm, Changes
from muster_hub.rollouts.gates.sums import Sums, read
from muster_hub.rollouts.members import Member, StagedRollout
from muster_hub.rollouts.plan import CANARY, DISAGREEMENT, GatePlan, Plan, stages
from muster_hub.rollouts.targets import draw
from muster_hub.storage import models

ARM_MAX = 500
"""Devices compared in an arm; beyond this more don't sharpen what is seen."""
SILENT_WINDOWS = 1.5
"""A device is silent while it has sent none, or when its last ended longer ago than this many."""
Data = dict[str, Rates | Shifts | Pairs]


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
    before = row.judged if row.judged and row.judged["wave"] == row.wave else None
    seen = before["look"] if before else 0
    passed = int((now - row.wave_since) // window_seconds)
    gate = rules(plan, gate_plan, row.wave, window_seconds)
    if passed <= seen or seen >= gate.looks or (before and before["action"] == "stop"):
        return False
    missed = [checkpoint for checkpoint in checkpoints(gate.looks) if seen < checkpoint <= passed]
    this = missed[-1] if missed else min(passed, gate.looks)
    verdict = _judge(session, row, plan, gate_plan, members, window_seconds, this, now)
    kept = experiment_step.kept(row, verdict, done=max(this, min(passed, gate.looks)) >= gate.looks)
    row.judged = kept | {
        "wave": row.wave,
        "look": max(this, min(passed, gate.looks)),
        "action": verdict.action,
        "reason": kept["experiment"]["reason"] if isinstance(verdict, Result) else verdict.reason,
        "warnings": dict(verdict.warnings) | (before.get("warnings", {}) if before else {}),
    }
    session.add(row)
    return True


def rules(plan: Plan, gate_plan: GatePlan, wave: int, window_seconds: float) -> Gate:
    """What holds in a wave: an experiment has looks of its own, the last not before its time."""
    gate = gate_plan.gate()
    if wave == CANARY and plan.experiment is not None:
        least = math.ceil(plan.experiment.min_seconds / window_seconds)
        return replace(gate, looks=max(plan.experiment.looks, least))
    return gate


def _judge(
    session: Session,
    row: models.Rollout,
    plan: Plan,
    gate_plan: GatePlan,
    members: Sequence[Member],
    window_seconds: float,
    this: int,
    now: float,
) -> Verdict | Result:
    assert row.wave_since is not None
    canaries = [
        member for member in members if member.reached and member.reached.state == "committed"
    ]
    controls = [member for member in members if member.matches and not member.reached]
    experiment = plan.experiment if row.wave == CANARY else None
    if experiment is not None:
        arm = experiment_step.arm_a(row)
        controls = [control for control in controls if control.device in arm]
    canaries, controls = _some(row, plan, canaries), _some(row, plan, controls)
    begun = {canary.device: max(row.wave_since, canary.reached.changed_at) for canary in canaries
             if canary.reached}  # fmt: skip
    past = _past(session, row, gate_plan, [*canaries, *controls])
    since, until = row.wave_since, now + 1.0
    new = read(session, begun, model=row.model, since=since, until=until, manifest=row.manifest)
    old = read(
        session, [control.device for control in controls], model=row.model, since=since,
        until=until, other_than=row.manifest,
    )  # fmt: skip
    sides = _Sides(plan.groups, canaries, controls)
    expected = {device: _expected(at, now, window_seconds) for device, at in begun.items()}
    whole = _expected(since, now, window_seconds)
    data = sides.data(
        gate_plan,
        new | old,
        past,
        expected | {control.device: whole for control in controls},
        past_expected=gate_plan.past_seconds / window_seconds,
        window_seconds=window_seconds,
    )
    data |= _further(session, row, gate_plan, sides, begun, controls)
    quiet_since = now - SILENT_WINDOWS * window_seconds
    silent = sum(1 for device in begun if device not in new or new[device].until < quiet_since)
    evidence = Evidence(
        look=this,
        data=data,
        canaries=len(canaries),
        silent=silent,
        device_hours=sum(item.seconds for item in new.values()) / 3600,
        soaked=experiment is None or now - row.wave_since >= experiment.min_seconds,
        installs=_installs(plan, members),
    )
    gate = rules(plan, gate_plan, row.wave, window_seconds)
    return judge(gate, evidence) if experiment is None else judge_experiment(gate, evidence)


def _further(
    session: Session,
    row: models.Rollout,
    plan: GatePlan,
    sides: "_Sides",
    begun: Mapping[str, float],
    controls: Sequence[Member],
) -> Data:
    """Evidence that isn't in the sums of windows: drift, disagreement, posted values."""
    assert row.wave_since is not None
    found: Data = {}
    names = [control.device for control in controls]
    if "drift" in plan.metrics or plan.warns_of("drift"):
        drifting = readings.drifting(
            session, begun, model=row.model, since=row.wave_since, manifest=row.manifest
        ) | readings.drifting(
            session, names, model=row.model, since=row.wave_since, other_than=row.manifest
        )
        found |= sides.drift(drifting)
    if plan.warns_of("disagreement"):
        shares = readings.disagreement(session, manifest=row.manifest, since=row.created)
        if len(shares) > 1:
            over = np.array([share - plan.disagreement_max for share, _ in shares], np.float64)
            found[DISAGREEMENT] = Pairs(Changes(over, np.zeros(len(over), np.intp), 0.0))
    for metric in plan.custom:
        values = readings.posted(
            session,
            row.id or 0,
            metric.name,
            dict(begun) | dict.fromkeys(names, row.wave_since),
            before=row.created,
            past_since=row.created - plan.past_seconds,
        )
        shifts = [
            custom.changes(metric, [values[item.device] for item in side], stratum)
            for side, stratum in sides.both()
        ]
        if all(len(shift.values) >= 2 for shift in shifts):
            found[metric.name] = Shifts(*shifts)
    return found


def _some(row: models.Rollout, plan: Plan, side: list[Member]) -> list[Member]:
    """At most ``ARM_MAX`` of an arm, by lot."""
    if len(side) <= ARM_MAX:
        return side
    drawn = set(
        draw(StagedRollout(id=row.id or 0, state="running", wave=0, plan=plan), side)[:ARM_MAX]
    )
    return [item for item in side if item.device in drawn]


def _past(
    session: Session, row: models.Rollout, gate_plan: GatePlan, members: Sequence[Member]
) -> dict[str, Sums]:
    names = [member.device for member in members]
    since = row.created - gate_plan.past_seconds
    return read(session, names, model=row.model, since=since, until=row.created)


def _expected(since: float, now: float, window_seconds: float) -> float:
    """Windows that should have come by now, the one that is open not counted."""
    return max((now - since) / window_seconds - 1.0, 0.0)


class _Sides:
    """Both arms as arrays, a row per device, strata as numbers."""

    def __init__(
        self, strata: Sequence[str], canaries: Sequence[Member], controls: Sequence[Member]
    ) -> None:
        self._sides = canaries, controls
        self._strata = strata
        groups = sorted({self._group(item) for item in (*canaries, *controls)})
        self._codes = {group: code for code, group in enumerate(groups)}

    def _group(self, member: Member) -> tuple[str, ...]:
        return tuple(member.labels.get(key, "") for key in self._strata)

    def both(self) -> list[tuple[Sequence[Member], np.ndarray[tuple[int], np.dtype[np.int64]]]]:
        """Each arm with its devices' strata."""
        return [(side, self._stratum(side)) for side in self._sides]

    def drift(self, drifting: Mapping[str, tuple[int, int]]) -> Data:
        """Drifting features out of those watched. A device's own past is not told apart: chance
        drew the canaries, so as many of them drifted before as of the controls."""
        arms = []
        for side, stratum in self.both():
            rows = [(*drifting.get(item.device, (0, 0)), 0, 0) for item in side]
            columns = np.array(rows, np.float64).reshape(-1, 4).T
            arms.append(Arm(columns[0], columns[1], columns[2], columns[3], stratum))
        return {DRIFT.name: Rates(*arms)} if all(arm.exposure.sum() > 0 for arm in arms) else {}

    def data(
        self,
        plan: GatePlan,
        now: Mapping[str, Sums],
        past: Mapping[str, Sums],
        expected: Mapping[str, float],
        *,
        past_expected: float,
        window_seconds: float,
    ) -> Data:
        """Evidence for each metric of the plan that both arms have told something about."""
        if not all(self._sides):
            return {}
        none = Sums()

        def arm(side: Sequence[Member], metric: str) -> Arm:
            rows = []
            for item in side:
                new, old = now.get(item.device, none), past.get(item.device, none)
                if metric == "errors":
                    rows.append((new.errors, new.inferences, old.errors, old.inferences))
                elif metric == "wrong labels":
                    rows.append((new.labels_wrong, new.labels, old.labels_wrong, old.labels))
                else:
                    missing = _missing(new, expected[item.device], window_seconds)
                    before = _missing(old, past_expected, window_seconds) if old.seconds else 0.0
                    known = past_expected if old.seconds else 0.0
                    rows.append((missing, expected[item.device], before, known))
            columns = np.array(rows, np.float64).T
            return Arm(columns[0], columns[1], columns[2], columns[3], self._stratum(side))

        found: Data = {}
        for metric in (metric for metric in plan.metrics if metric != "drift"):
            if metric == "p95 latency":
                shifts = [self._shift(side, now, past) for side in self._sides]
                if all(len(shift.values) >= 2 for shift in shifts):
                    found[metric] = Shifts(*shifts)
                continue
            arms = [arm(side, metric) for side in self._sides]
            if all(arm.exposure.sum() > 0 for arm in arms):
                found[metric] = Rates(*arms)
        return found

    def _stratum(self, side: Sequence[Member]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([self._codes[self._group(item)] for item in side], np.int64)

    def _shift(
        self, side: Sequence[Member], now: Mapping[str, Sums], past: Mapping[str, Sums]
    ) -> Changes:
        """Change of each device's mean log p95 against its own past; devices without are left."""
        none = Sums()
        measured = [
            item
            for item in side
            if now.get(item.device, none).windows and past.get(item.device, none).windows
        ]
        values = [now[item.device].latency - past[item.device].latency for item in measured]
        noise = [
            now[item.device].latency_noise + past[item.device].latency_noise for item in measured
        ]
        mean = float(np.mean(noise)) if noise else 0.0
        return Changes(np.array(values, np.float64), self._stratum(measured), mean)


def _missing(sums: Sums, expected: float, window_seconds: float) -> float:
    return min(max(expected - sums.seconds / window_seconds, 0.0), expected)


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
