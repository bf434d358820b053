"""How a rollout proceeds, as an operator writes it; fixed when it starts. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_hub.rollouts.budgets import Budget
from muster_hub.rollouts.experiments import ExperimentPlan
from muster_hub.rollouts.gates import judge
from muster_hub.rollouts.gates.judge import Gate, Metric
from muster_hub.rollouts.maintenance import MaintenanceWindow
from muster_hub.rollouts.shadows import ShadowPlan
from muster_protocol.wire import selectors
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.selectors import Selector

CANARY, ALL = 0, 1
"""Places of the first wave, and of the one after it when no others are planned."""
WAVES_MAX = 16

CUSTOM_MAX = 4
MetricName = Literal["errors", "missing windows", "p95 latency", "wrong labels", "drift"]
WarningName = Literal["drift", "disagreement"]
METRICS: dict[MetricName, Metric] = {
    "errors": judge.ERRORS,
    "missing windows": judge.MISSING,
    "p95 latency": judge.LATENCY,
    "wrong labels": Metric(name="wrong labels", scale=0.5, margin=math.log(1.5), negligible=0.005),
    "drift": judge.DRIFT,
}
DISAGREEMENT = "disagreement"


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


class CustomMetric(Struct, frozen=True, forbid_unknown_fields=True):
    """A number that the operator's own systems post for each device, such as a scrap rate."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9 ._-]{0,62}$")]
    margin: Annotated[float, Meta(gt=0)]
    """What is tolerated: a factor above 1, or a difference in the metric's own unit."""
    unit: Literal["ratio", "difference"] = "ratio"
    better: Literal["lower", "higher"] = "lower"
    past: bool = True
    """Each device is scored against its own values from before the rollout; devices without
    are left out. False: devices are compared as they are."""
    warn: bool = False
    """Told to the operator, never stopping."""

    def metric(self, false_stop: float) -> Metric:
        margin = math.log(self.margin) if self.unit == "ratio" else self.margin
        return Metric(
            name=self.name,
            scale=margin,
            margin=margin,
            false_stop=false_stop,
            unit=self.unit,
            part="warn" if self.warn else "gate",
        )

    def check(self) -> None:
        if self.unit == "ratio" and self.margin <= 1:
            raise ProtocolError(
                f"custom metric {self.name!r}: a margin of {self.margin:g}× tolerates nothing: "
                "give a factor above 1"
            )


class GatePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared between devices that have the release and those that don't yet."""

    metrics: Annotated[tuple[MetricName, ...], Meta(max_length=5)] = (
        "errors", "missing windows", "p95 latency",
    )  # fmt: skip
    """``drift`` among them stops, but never holds a wave back."""
    custom: Annotated[tuple[CustomMetric, ...], Meta(max_length=CUSTOM_MAX)] = ()
    warnings: Annotated[tuple[WarningName, ...], Meta(max_length=2)] = ("drift", "disagreement")
    """Told to the operator, never stopping."""
    disagreement_max: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    """Share of what a challenger was shown that it may answer otherwise without a warning."""
    looks: Annotated[int, Meta(ge=1, le=1000)] = 96
    """Windows until the last look."""
    past_seconds: Annotated[float, Meta(gt=0)] = 86_400.0
    """How much of its own past a device is scored against."""
    false_stop: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    """Chance, for each metric, of stopping a release that changes nothing."""
    install_failure_rate: Annotated[float, Meta(gt=0, lt=0.5)] = 0.02
    negligible_errors: Annotated[float, Meta(ge=0, lt=0.5)] = judge.ERRORS.negligible
    """Share of errors that matters to nobody: surely below it a release is no worse."""

    def gate(self) -> Gate:
        known = [replace(METRICS[name], false_stop=self.false_stop) for name in self.metrics]
        known = [
            replace(item, negligible=self.negligible_errors) if item.name == "errors" else item
            for item in known
        ]
        own = [item.metric(self.false_stop) for item in self.custom]
        return Gate(
            metrics=(*known, *own, *self._warning_metrics()),
            looks=self.looks,
            install_failure_rate=self.install_failure_rate,
            install_false_stop=self.false_stop,
        )

    def _warning_metrics(self) -> list[Metric]:
        found = []
        if self.warns_of("drift"):
            found.append(replace(judge.DRIFT, part="warn", false_stop=self.false_stop))
        if self.warns_of("disagreement"):
            most = self.disagreement_max
            found.append(
                Metric(
                    name=DISAGREEMENT, scale=most, margin=most, limit=most, unit="points",
                    part="warn", false_stop=self.false_stop,
                )
            )  # fmt: skip
        return found

    def warns_of(self, name: WarningName) -> bool:
        return name in self.warnings and name not in self.metrics

    def check(self) -> None:
        """Raise ProtocolError for what can't be meant."""
        names = [item.name for item in self.custom]
        if not self.metrics and all(item.warn for item in self.custom):
            raise ProtocolError("gate: no metric in it could hold a wave back or stop it")
        if tuple(self.metrics) == ("drift",) and all(item.warn for item in self.custom):
            raise ProtocolError("gate: drift alone holds no wave back: name another metric, too")
        taken = {item.name for item in METRICS.values()} | {*METRICS, DISAGREEMENT}
        for name in names:
            if names.count(name) > 1 or name in taken:
                raise ProtocolError(f"gate: {name!r} is the name of another metric")
        for item in self.custom:
            item.check()


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
    windows: Annotated[tuple[MaintenanceWindow, ...], Meta(max_length=8)] = ()
    """When devices may swap; always, when there are none."""
    shadow: ShadowPlan | None = None
    """Watch the release beside what runs before the first wave; None: don't."""
    experiment: ExperimentPlan | None = None
    """Takes the place of the canary: the release against what runs, on matched devices."""
    gate: GatePlan | None = None
    approve_start: bool = False
    static: bool = False
    """Only devices that were enrolled when it started; others get the release on completion."""

    @property
    def asks_permit(self) -> bool:
        """Whether devices must ask before they swap."""
        return bool(self.budgets or self.windows)

    @property
    def begins_with_all(self) -> bool:
        """Whether there is neither a canary nor an experiment before the other waves."""
        return self.canary == 0 and self.experiment is None

    @property
    def groups(self) -> tuple[str, ...]:
        """Labels in whose groups devices are drawn and compared."""
        return (self.experiment.match if self.experiment else ()) or self.strata


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
    first = Stage(name="canary", approve=plan.approve_start, soak_seconds=plan.min_soak_seconds)
    if plan.experiment is not None:
        lasts = plan.experiment.min_seconds
        first = Stage(name="experiment", approve=plan.approve_start, soak_seconds=lasts)
    found = [first]
    for number, wave in enumerate(plan.waves, 1):
        soak = plan.min_soak_seconds if wave.soak_seconds is None else wave.soak_seconds
        found.append(
            Stage(
                name=wave.name or wave.selector or f"{wave.share:.0%}",
                share=wave.share,
                selector=selectors.parse(wave.selector),
                approve=wave.approve
                or (number == 1 and plan.begins_with_all and plan.approve_start),
                soak_seconds=soak,
            )
        )
    last = plan.waves[-1] if plan.waves else None
    if last is None or last.share < 1 or last.selector:
        begins = last is None and plan.begins_with_all and plan.approve_start
        found.append(Stage(name="all", soak_seconds=plan.min_soak_seconds, approve=begins))
    if plan.holdback:
        found.append(Stage(name="holdback", holds_back=False))
    return tuple(found)


def read_plan(values: Mapping[str, object]) -> Plan:
    """A plan from plain values; raises ProtocolError naming the field at fault."""
    try:
        plan = msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    if plan.experiment is not None and plan.gate is None:
        plan = msgspec.structs.replace(plan, gate=GatePlan())
    try:
        stages(plan)
        for budget in plan.budgets:
            budget.check()
        for window in plan.windows:
            window.check()
        if plan.gate is not None:
            plan.gate.check()
    except ProtocolError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
    return plan
