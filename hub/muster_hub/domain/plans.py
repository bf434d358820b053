"""How a rollout proceeds, as an operator writes it; fixed when it starts. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_hub.domain import gates, selectors
from muster_hub.domain.budgets import Budget
from muster_hub.domain.gates import Gate, Metric
from muster_hub.domain.selectors import Selector
from muster_hub.domain.shadows import ShadowPlan
from muster_hub.domain.windows import Window
from muster_protocol.errors import ProtocolError

CANARY, ALL = 0, 1
"""Places of the first wave, and of the one after it when no others are planned."""
WAVES_MAX = 16

MetricName = Literal["errors", "missing windows", "p95 latency", "wrong labels"]
METRICS: dict[MetricName, Metric] = {
    "errors": gates.ERRORS,
    "missing windows": gates.MISSING,
    "p95 latency": gates.LATENCY,
    "wrong labels": Metric(name="wrong labels", scale=0.5, margin=math.log(1.5)),
}


class Wave(Struct, frozen=True, forbid_unknown_fields=True):
    """One step after the canary."""

    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the devices it concerns, counting those that earlier waves have reached."""
    selector: Annotated[str, Meta(max_length=1024)] = ""
    """Narrows the wave to some of the rollout's devices, such as one line."""
    name: Annotated[str, Meta(max_length=64)] = ""
    approve: bool = False
    """Wait for an operator's approval before it begins."""
    soak_seconds: Annotated[float, Meta(ge=0)] | None = None
    """How long it must hold before the next; the plan's ``min_soak_seconds`` when not given."""


class GatePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared between devices that have the release and those that don't yet."""

    metrics: Annotated[tuple[MetricName, ...], Meta(min_length=1, max_length=4)] = (
        "errors", "missing windows", "p95 latency",
    )  # fmt: skip
    looks: Annotated[int, Meta(ge=1, le=1000)] = 96
    """Windows until the last look."""
    past_seconds: Annotated[float, Meta(gt=0)] = 86_400.0
    """How much of its own past a device is scored against."""
    false_stop: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    """Chance, for each metric, of stopping a release that changes nothing."""
    install_failure_rate: Annotated[float, Meta(gt=0, lt=0.5)] = 0.02

    def gate(self) -> Gate:
        return Gate(
            metrics=tuple(
                replace(METRICS[name], false_stop=self.false_stop) for name in self.metrics
            ),
            looks=self.looks,
            install_failure_rate=self.install_failure_rate,
            install_false_stop=self.false_stop,
        )


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout proceeds; fixed when it starts."""

    canary: Annotated[float, Meta(ge=0)] = 0.25
    """Below 1 a fraction of the matching devices, from 1 a number of them; 0 is no canary."""
    min_soak_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """How long a wave must have been committed before the next follows."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 1800.0
    """How long a device may take while online, in all; longer is a failure."""
    failures_allowed: Annotated[int, Meta(ge=0)] = 0
    in_flight_max: Annotated[int, Meta(ge=0)] = 0
    """Most devices under way at once; 0 is no such limit."""
    strata: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    """Labels in whose groups waves are drawn in proportion."""
    waves: Annotated[tuple[Wave, ...], Meta(max_length=WAVES_MAX)] = ()
    """After the canary; all others follow in a last one."""
    holdback: Annotated[int, Meta(ge=0)] = 0
    """Devices kept for last, so that the release can be compared until then."""
    budgets: Annotated[tuple[Budget, ...], Meta(max_length=4)] = ()
    windows: Annotated[tuple[Window, ...], Meta(max_length=8)] = ()
    """When devices may swap; always, when there are none."""
    shadow: ShadowPlan | None = None
    """Watch the release beside what runs before the first wave; None: don't."""
    gate: GatePlan | None = None
    approve_start: bool = False
    static: bool = False
    """Only devices that were enrolled when it started; others get the release on completion."""

    @property
    def asks_leave(self) -> bool:
        """Whether devices must ask before they swap."""
        return bool(self.budgets or self.windows)


EVERY = Selector()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A wave as it is carried out."""

    name: str
    share: float = 1.0
    selector: Selector = EVERY
    approve: bool = False
    soak_seconds: float = 0.0
    holds_back: bool = True
    """Leaves the held-back devices alone."""


def stages(plan: Plan) -> tuple[Stage, ...]:
    """Every wave in order: the canary, those planned, all others, and those held back."""
    found = [Stage(name="canary", approve=plan.approve_start, soak_seconds=plan.min_soak_seconds)]
    for number, wave in enumerate(plan.waves, 1):
        soak = plan.min_soak_seconds if wave.soak_seconds is None else wave.soak_seconds
        found.append(
            Stage(
                name=wave.name or wave.selector or f"{wave.share:.0%}",
                share=wave.share,
                selector=selectors.parse(wave.selector),
                approve=wave.approve or (number == 1 and plan.canary == 0 and plan.approve_start),
                soak_seconds=soak,
            )
        )
    last = plan.waves[-1] if plan.waves else None
    if last is None or last.share < 1 or last.selector:
        first = last is None and plan.canary == 0 and plan.approve_start
        found.append(Stage(name="all", soak_seconds=plan.min_soak_seconds, approve=first))
    if plan.holdback:
        found.append(Stage(name="holdback", holds_back=False))
    return tuple(found)


def read_plan(values: Mapping[str, object]) -> Plan:
    """A plan from plain values; raises ProtocolError naming the field at fault."""
    try:
        plan = msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    try:
        stages(plan)
        for budget in plan.budgets:
            budget.check()
        for window in plan.windows:
            window.check()
    except ProtocolError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    return plan
