"""A/B experiments: a release (B) against what runs (A), on matched devices. Pure.

Harm stops an experiment as it stops any wave. The other way round, A is compared with B by the same
comparison: B is better where A is surely the worse. An experiment never goes on by itself; its
verdict is what an operator decides by.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct
from scipy import special

from muster_hub.rollouts.gates.judge import (
    Action,
    Evidence,
    Finding,
    Gate,
    Verdict,
    judge,
)
from muster_hub.rollouts.gates.look import Pairs, Rates, Reading, Shifts
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.statistics import Comparison, t_quantile

Outcome = Literal["better", "worse", "no difference", "not enough evidence"]
SETTLED: frozenset[str] = frozenset({"better", "worse", "no difference"})
INTERVAL_CHANCE = 0.05
"""Of an interval that at any look of the experiment doesn't hold the true effect."""


class ExperimentPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """The first wave as an experiment; what is compared is the gate's."""

    share: Annotated[float, Meta(gt=0, le=0.5)] = 0.5
    """Of each group's devices, who get the release; as many keep what they run."""
    match: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=4)] = ()
    """Labels in whose groups both arms are drawn in pairs; the plan's strata when none."""
    min_seconds: Annotated[float, Meta(ge=0)] = 86_400.0
    """Before this only harm is judged."""
    looks: Annotated[int, Meta(ge=1, le=1000)] = 96
    """Windows until the last look; more where ``min_seconds`` takes more."""


@dataclass(frozen=True)
class Arms:
    """Who takes part, fixed when it starts."""

    a: tuple[str, ...]
    """They keep what they run until it ends."""
    b: tuple[str, ...]
    """They get the release."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """B against A in one metric: a factor where ``unit`` is ratio, else a difference."""

    metric: str
    unit: str
    effect: float
    low: float
    high: float
    """An interval that is safe at every look."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment under way, or what came of it; kept by the caller."""

    a: tuple[str, ...]
    """Devices that keep what they run."""
    b: tuple[str, ...]
    """Devices that get the release."""
    outcome: Outcome = "not enough evidence"
    reason: str = ""
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment has shown so far."""

    action: Action
    """Stop for harm; otherwise wait, for more windows or for an operator."""
    outcome: Outcome
    reason: str
    effects: tuple[Effect, ...]
    warnings: Mapping[str, str]


def judge_experiment(gate: Gate, evidence: Evidence) -> Result:
    """What the evidence says at this look, in both directions."""
    forward = judge(gate, evidence)
    if forward.action == "stop":
        return _result(forward, "worse", f"B is worse. {forward.reason}")
    if not evidence.soaked:
        return _result(
            forward,
            "not enough evidence",
            "Not enough evidence: it has to last longer.",
        )
    backward = judge(replace(gate, install_failure_rate=0.5), mirrored(evidence))
    if forward.action != "advance":
        return _result(forward, "not enough evidence", forward.reason)
    better = [finding.metric.name for finding in _deciding(backward) if finding.stop_average]
    if better:
        reason = f"B is better: {_effects_in_words(forward, better)}; no metric is worse."
        return _result(forward, "better", reason)
    if all(finding.not_worse for finding in _deciding(backward)):
        names = [finding.metric.name for finding in _deciding(forward)]
        reason = f"No difference larger than the margin: {_effects_in_words(forward, names)}."
        return _result(forward, "no difference", reason)
    return _result(
        forward,
        "not enough evidence",
        "Not enough evidence: B is no worse, whether it is better is not settled. "
        f"A against B: {backward.reason}",
    )


def mirrored(evidence: Evidence) -> Evidence:
    """The same evidence with A as what is judged and B as what it is compared with."""
    data: dict[str, Reading] = {}
    for name, reading in evidence.data.items():
        match reading:
            case Rates(canary, control):
                data[name] = Rates(control, canary)
            case Shifts(canary, control):
                data[name] = Shifts(control, canary)
            case Pairs():
                pass  # compared with what runs on the same device: there is no other side
            case _:
                assert_never(reading)
    return replace(evidence, data=data, installs=None)


def interval(compared: Comparison, scale: float) -> tuple[float, float]:
    """Where the effect surely is, on the scale of ``harm``; safe at every look.

    The normal mixture of ``harm_evidence``, two-sided and solved for the effect.
    """
    variance = compared.variance_cautious
    if variance <= 0:
        return compared.harm, compared.harm
    g = scale**2 / (variance + scale**2)
    z = math.sqrt((2 * math.log(1 / INTERVAL_CHANCE) - math.log1p(-g)) / g)
    tail = max(float(special.ndtr(-z)), 1e-300)
    half = -t_quantile(compared.degrees, tail) * math.sqrt(variance)
    return compared.harm - half, compared.harm + half


def effect(metric: Metric, compared: Comparison) -> Effect:
    """One metric's effect and its interval, in the unit that people read."""
    values: tuple[float, ...] = (compared.harm, *interval(compared, metric.scale))
    if metric.unit == "ratio":
        values = tuple(math.exp(min(max(value, -20.0), 20.0)) for value in values)
    return Effect(
        metric=metric.name, unit=metric.unit, effect=values[0], low=values[1], high=values[2]
    )


def _result(forward: Verdict, outcome: Outcome, reason: str) -> Result:
    return Result(
        action="stop" if forward.action == "stop" else "wait",
        outcome=outcome,
        reason=reason,
        effects=tuple(
            effect(finding.metric, finding.compared)
            for finding in forward.findings
            if finding.compared is not None and not finding.metric.limit
        ),
        warnings=forward.warnings,
    )


def _deciding(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.findings if finding.metric.part == "gate"]


def _effects_in_words(verdict: Verdict, names: list[str]) -> str:
    effects = []
    for finding in verdict.findings:
        if finding.metric.name in names and finding.compared is not None:
            known = effect(finding.metric, finding.compared)
            sign = "×" if known.unit == "ratio" else ""
            effects.append(
                f"{known.metric} {known.effect:.3g}{sign} ({known.low:.3g}–{known.high:.3g})"
            )
    return ", ".join(effects)
