"""The shadow before a rollout's first wave: the release is watched beside what runs. Pure.

Some devices get it as their challenger: it sees the inputs of the model that answers, and answers
nobody. What is compared says whether the canary may begin. Nothing is installed for good and nobody
gets its answers, so a shadow that ends badly costs no device anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from muster_hub.rollouts.gates.judge import DEVICES_EFFECTIVE_MIN, Evidence, Gate, find
from muster_hub.rollouts.gates.look import Pairs
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.statistics import Changes
from muster_hub.rollouts.gates.words import stopped

Action = Literal["wait", "advance", "stop"]
ACCURACY = Metric(name="accuracy loss", scale=0.03, margin=0.02, unit="points")
LABELLED_MIN = 10
"""Labels that a device must have brought before its share of right answers counts."""
FAILED_COMPARED_MIN = 100
"""Inputs that must have been compared before a share of failures stops anything."""
NAMED_MAX = 3


class ShadowPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """How a release is watched before the first wave."""

    devices: Annotated[float, Meta(gt=0)] = 0.1
    """Below 1 a fraction of the matching devices, from 1 a number of them."""
    min_seconds: Annotated[float, Meta(ge=0)] = 3600.0
    """How long it is watched at least."""
    compared_min: Annotated[int, Meta(ge=1)] = 1000
    """Inputs that both models must have been given, on all devices together."""
    disagreed_max: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Share of them that it may answer otherwise than what runs."""
    failed_max: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Share of them that it may fail to answer."""
    looks: Annotated[int, Meta(ge=1, le=1000)] = 96
    """Windows until labels are looked at for the last time."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One device in shadow: what it says of the challenger, and what its windows have told."""

    device: str
    state: str = ""
    """Of its report's challenger; empty when the report names none, or another."""
    detail: str = ""
    compared: int = 0
    disagreed: int = 0
    failed: int = 0
    labelled: int = 0
    right: int = 0
    champion_right: int = 0


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A shadow under way, or what came of it; kept by the caller."""

    devices: tuple[str, ...]
    since: float
    action: Action = "wait"
    reason: str = ""
    look: int = 0
    """Windows since it began, when it was judged last."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a look at a shadow decided, and why."""

    action: Action
    reason: str


def wanted(plan: ShadowPlan, matching: int) -> int:
    """How many devices the shadow takes, of those that match."""
    if plan.devices >= 1:
        return min(int(plan.devices), matching)
    return min(max(round(plan.devices * matching), 1), matching)


def reported_challenger(
    slots: Mapping[str, Any] | None, slot: str, manifest: str
) -> tuple[str, str]:
    """State and detail of a challenger in a report's ``slots``, as plain values."""
    found = ((slots or {}).get(slot) or {}).get("challenger") or {}
    if found.get("manifest") != manifest:
        return "", ""
    detail = ": ".join(part for part in (found.get("refusal"), found.get("detail")) if part)
    return str(found.get("state", "")), detail or str(found.get("waiting_for", ""))


def judge(
    plan: ShadowPlan,
    watched: Sequence[Watched],
    *,
    elapsed_seconds: float,
    look: int,
    failures_allowed: int = 0,
) -> Judgement:
    """Whether the first wave may begin; ``look`` counts windows from 1."""
    labels = _labels(plan, watched, look)
    harm = _refused(watched, failures_allowed) or _unanswered(plan, watched)
    if harm:
        return Judgement(action="stop", reason=harm)
    if labels.action == "stop":
        return labels
    compared = sum(challenger.compared for challenger in watched)
    waits = _waits(plan, watched, compared, elapsed_seconds)
    if waits:
        return Judgement(action="wait", reason=waits)
    disagreed = sum(challenger.disagreed for challenger in watched)
    found = f"{_share(disagreed, compared)} of {compared} answers differ"
    if disagreed > plan.disagreed_max * compared:
        reason = f"{found}, {plan.disagreed_max:.2%} allowed{_most(watched)}."
        return Judgement(action="stop", reason=reason)
    if labels.action == "wait":
        return labels
    return Judgement(action="advance", reason=f"{found}, as allowed; {labels.reason}")


def _refused(watched: Sequence[Watched], failures_allowed: int) -> str:
    refused = [challenger for challenger in watched if challenger.state == "failed"]
    if len(refused) <= failures_allowed:
        return ""
    named = "; ".join(
        f"{challenger.device} {challenger.detail}" for challenger in refused[:NAMED_MAX]
    )
    return f"{len(refused)} of {len(watched)} devices refused it: {named}."


def _unanswered(plan: ShadowPlan, watched: Sequence[Watched]) -> str:
    compared = sum(challenger.compared for challenger in watched)
    failed = sum(challenger.failed for challenger in watched)
    if compared < FAILED_COMPARED_MIN or failed <= plan.failed_max * compared:
        return ""
    return (
        f"it could not answer {_share(failed, compared)} of {compared} inputs, "
        f"{plan.failed_max:.2%} allowed."
    )


def _waits(
    plan: ShadowPlan, watched: Sequence[Watched], compared: int, elapsed_seconds: float
) -> str:
    comparing = sum(
        1 for challenger in watched if challenger.compared or challenger.state == "comparing"
    )
    standing = f"{comparing} of {len(watched)} devices compare"
    if compared < plan.compared_min:
        idle = [
            challenger
            for challenger in watched
            if challenger.state != "comparing" and challenger.detail
        ]
        named = "".join(
            f"; {challenger.device} waits for {challenger.detail}"
            for challenger in idle[:NAMED_MAX]
        )
        return f"{standing}, {compared} of {plan.compared_min} inputs compared{named}."
    left = plan.min_seconds - elapsed_seconds
    return f"{standing}; watched for {left:.0f} s more." if left > 0 else ""


def _labels(plan: ShadowPlan, watched: Sequence[Watched], look: int) -> Judgement:
    """Which of the two the labels favour, device by device on the same inputs."""
    labelled = [challenger for challenger in watched if challenger.labelled >= LABELLED_MIN]
    if len(labelled) < DEVICES_EFFECTIVE_MIN:
        few = f"labels of {len(labelled)} devices, {DEVICES_EFFECTIVE_MIN:.0f} would tell"
        return Judgement(action="advance", reason=f"which is right was not judged ({few}).")
    loss = np.array(
        [
            (challenger.champion_right - challenger.right) / challenger.labelled
            for challenger in labelled
        ]
    )
    noise = float(np.mean([_noise(challenger) for challenger in labelled]))
    labels = np.array([float(challenger.labelled) for challenger in labelled])
    pairs = Changes(loss, np.zeros(len(loss), np.int64), noise, labels)
    data = {ACCURACY.name: Pairs(pairs)}
    evidence = Evidence(
        look=min(look, plan.looks), data=data, canaries=len(labelled), silent=0, device_hours=0.0,
        soaked=True,
    )  # fmt: skip
    finding = find(Gate(metrics=(ACCURACY,), looks=plan.looks), ACCURACY, evidence)
    points = -100 * float(loss.mean())
    inputs = sum(challenger.labelled for challenger in labelled)
    found = f"on {inputs} labelled inputs it is right {points:+.1f} points more often"
    if finding.stop and finding.compared is not None:
        reason = stopped(ACCURACY.name, ACCURACY.unit, ACCURACY.false_stop, finding.compared)
        return Judgement(action="stop", reason=reason)
    same = bool(np.ptp(loss) == 0 and loss[0] <= 0)  # No spread at all: no test can be made of it.
    if finding.not_worse or same:
        return Judgement(action="advance", reason=f"{found}.")
    return Judgement(
        action="wait",
        reason=f"{found}, which does not show yet that it loses less than "
        f"{100 * ACCURACY.margin:.0f}: more labels or devices, or advance by hand.",
    )


def _noise(watched: Watched) -> float:
    """Variance that drawing so few labels alone gives a device's difference, at most."""
    return 2 * 0.25 / watched.labelled


def _most(watched: Sequence[Watched]) -> str:
    """The device that differs most, where it is not alone."""
    rates = [
        (challenger.disagreed / challenger.compared, challenger.device)
        for challenger in watched
        if challenger.compared
    ]
    if len(rates) < 2:
        return ""
    rate, device = max(rates)
    return f"; most on {device}, {rate:.1%}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else f"{math.nan}"
