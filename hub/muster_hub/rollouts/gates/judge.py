"""Rollout gates: whether evidence says stop, go on, or wait, and in words why. Pure.

Every metric is looked at in every window (a *look*). Two rules stop: the average canary is worse
than the controls (a mixture e-value, safe at every look), or too many canaries are outliers (at
doubling looks). One rule lets the rollout advance: every metric is shown to be *not worse* than a
margin. Each metric has its own small chance of a false stop, so the one that stops is the guilty
one. A metric may be asked only to stop, or only to warn. Parameters are fixed before launch; a stop
is kept by the caller, late data never undo it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from muster_hub.rollouts.gates import words
from muster_hub.rollouts.gates.installs import Installs, judge_installs
from muster_hub.rollouts.gates.look import Pairs, Rates, Reading, Shifts
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.rare import Rare, bound
from muster_hub.rollouts.gates.statistics import (
    Comparison,
    compare_changes,
    compare_pairs,
    compare_rates,
    harm_evidence,
    not_worse,
)

Action = Literal["stop", "advance", "wait"]
CONTROLS_MIN = 50
"""With fewer controls their spread is poorly known, so a stop needs twice the evidence."""
DEVICES_EFFECTIVE_MIN = 4.0
ADVANCE_DEVICES_MIN = 20
ADVANCE_CHANCE = 0.05
REPORTING_MIN = 0.8
SEES_DOUBLING_DEVICES_MIN = 10


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The rules of one wave, fixed before it starts."""

    metrics: tuple[Metric, ...]
    looks: int = 96
    """Windows until the last look."""
    install_failure_rate: float = 0.02
    install_false_stop: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What has been received up to a look, counted from 1. Metrics without data are left out."""

    look: int
    data: Mapping[str, Reading]
    canaries: int
    silent: int
    """Canaries not heard from lately."""
    device_hours: float
    """Hours of canaries' windows received so far, in all."""
    soaked: bool
    """The wave has lasted as long as the plan asks."""
    installs: Installs | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One metric at one look."""

    metric: Metric
    compared: Comparison | None
    log_e: float = 0.0
    stop_average: bool = False
    stop_outliers: bool = False
    not_worse: bool = False
    rare: Rare | None = None
    """How rare a rate is, where it may be too rare for a ratio."""

    @property
    def stop(self) -> bool:
        """Whether this metric alone would stop the rollout."""
        return self.stop_average or self.stop_outliers


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a look decided, with the finding of every metric."""

    action: Action
    reason: str
    findings: tuple[Finding, ...] = ()
    warnings: Mapping[str, str] = field(default_factory=dict)
    """In words, by the metric's name."""


def checkpoints(looks: int) -> tuple[int, ...]:
    """Looks at which outliers and advancing are judged: 1, 2, 4, … and the last."""
    doubling = [1 << k for k in range(max(looks, 1).bit_length()) if 1 << k < looks]
    return (*doubling, looks)


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """What the evidence says at this look; ``reason`` is one or two sentences for an operator."""
    if evidence.installs is not None:
        stopped = judge_installs(
            evidence.installs, gate.install_failure_rate, gate.install_false_stop
        )
        if stopped is not None:
            return Verdict(action="stop", reason=stopped)
    findings = tuple(find(gate, metric, evidence) for metric in gate.metrics)
    warnings = {
        finding.metric.name: _warning(finding)
        for finding in findings
        if finding.stop and _warns(finding)
    }
    action, reason = _act(gate, evidence, [finding for finding in findings if not _warns(finding)])
    return Verdict(action=action, reason=reason, findings=findings, warnings=warnings)


def _act(gate: Gate, evidence: Evidence, findings: list[Finding]) -> tuple[Action, str]:
    for finding in findings:
        if finding.stop and finding.compared is not None:
            metric = finding.metric
            reason = words.stopped(metric.name, metric.unit, metric.false_stop, finding.compared)
            return "stop", reason
    proving = [finding for finding in findings if finding.metric.part == "gate"]
    waits = _waits(gate, evidence, proving)
    if waits is not None:
        return "wait", waits
    return "advance", words.advanced([item.metric.name for item in proving])


def _warns(finding: Finding) -> bool:
    return finding.metric.part == "warn"


def _warning(finding: Finding) -> str:
    metric, compared = finding.metric, finding.compared
    assert compared is not None
    if metric.limit:
        return words.above(metric.name, metric.limit, metric.false_stop, compared)
    return words.warned(metric.name, metric.unit, metric.false_stop, compared)


def find(gate: Gate, metric: Metric, evidence: Evidence) -> Finding:
    """Judge one metric at one look."""
    compared = compare(evidence.data.get(metric.name))
    if compared is None or compared.devices_effective < DEVICES_EFFECTIVE_MIN:
        return Finding(metric=metric, compared=compared)
    paired = isinstance(evidence.data[metric.name], Pairs)
    chance = metric.false_stop
    if compared.controls < CONTROLS_MIN and not paired:
        chance /= 2
    points = checkpoints(gate.looks)
    at_checkpoint = evidence.look in points
    log_e = harm_evidence(compared, metric.scale)
    finding = Finding(metric=metric, compared=compared, log_e=log_e)
    share = ADVANCE_CHANCE / len(points)
    reading = evidence.data[metric.name]
    rare = (
        bound(reading.canary, share) if isinstance(reading, Rates) and metric.negligible else None
    )
    proved = not_worse(compared, metric.margin) <= share or (
        rare is not None and rare.bound <= metric.negligible
    )
    return replace(
        finding,
        stop_average=log_e >= math.log(2 / chance),
        stop_outliers=at_checkpoint and compared.outlier_chance <= chance / (2 * len(points)),
        not_worse=at_checkpoint and proved,
        rare=rare,
    )


def compare(data: Reading | None) -> Comparison | None:
    """Canaries against controls by one metric; None before there is enough of both."""
    match data:
        case Rates(canary, control):
            return compare_rates(canary, control)
        case Shifts(canary, control):
            return compare_changes(canary, control)
        case Pairs(canary):
            return compare_pairs(canary)
        case None:
            return None
        case _:
            assert_never(data)


def _waits(gate: Gate, evidence: Evidence, findings: list[Finding]) -> str | None:
    """Why the rollout may not advance now, most telling first; None when it may."""
    if evidence.silent > (1 - REPORTING_MIN) * evidence.canaries:
        return words.blind(evidence.silent, evidence.canaries)
    without = [finding.metric.name for finding in findings if finding.compared is None]
    if without:
        return words.nothing_yet(without)
    if evidence.canaries < ADVANCE_DEVICES_MIN:
        return words.too_few(evidence.canaries, ADVANCE_DEVICES_MIN, SEES_DOUBLING_DEVICES_MIN)
    lacking = [finding for finding in findings if not finding.not_worse]
    if lacking:
        return unproved(gate, evidence, max(lacking, key=_missing_proof))
    return None if evidence.soaked else words.soaking()


def unproved(gate: Gate, evidence: Evidence, finding: Finding) -> str:
    """Why a metric that was received isn't proved to be no worse, and what would prove it."""
    metric, compared, rare = finding.metric, finding.compared, finding.rare
    assert compared is not None
    chance = ADVANCE_CHANCE / len(checkpoints(gate.looks))
    following = next((p for p in checkpoints(gate.looks) if p > evidence.look), None)
    if rare is not None and rare.rate < metric.negligible:
        return words.not_yet_rare(
            metric.name, rare.events, rare.bound, metric.negligible, evidence.device_hours,
            following,
        )  # fmt: skip
    return words.not_enough(
        metric.name, metric.unit, metric.margin, compared, chance, evidence.device_hours, following
    )


def _missing_proof(finding: Finding) -> float:
    assert finding.compared is not None
    if finding.rare is not None and finding.rare.bound <= finding.metric.negligible:
        return 0.0
    return not_worse(finding.compared, finding.metric.margin)
