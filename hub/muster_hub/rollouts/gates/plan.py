"""What a plan says of its gate: the metrics it is judged by, and the operator's own. Pure."""

import math
from dataclasses import replace
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from muster_hub.rollouts.gates.judge import Gate
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.metrics.errors import NEGLIGIBLE as NEGLIGIBLE_ERRORS
from muster_hub.rollouts.gates.metrics.registry import METRICS, GateName, MetricName, WarningName
from muster_protocol.wire.errors import ProtocolError

CUSTOM_MAX = 4


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
        """Its rule, with the plan's chance of a false stop."""
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
        """Raise ProtocolError for a margin that tolerates nothing."""
        if self.unit == "ratio" and self.margin <= 1:
            raise ProtocolError(
                f"custom metric {self.name!r}: a margin of {self.margin:g}× tolerates nothing: "
                "give a factor above 1"
            )


class GatePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared between devices that have the release and those that don't yet."""

    metrics: Annotated[tuple[GateName, ...], Meta(max_length=len(get_args(GateName)))] = (
        "errors", "missing windows", "p95 latency",
    )  # fmt: skip
    """``drift`` among them stops, but never holds a wave back."""
    custom: Annotated[tuple[CustomMetric, ...], Meta(max_length=CUSTOM_MAX)] = ()
    warnings: Annotated[tuple[WarningName, ...], Meta(max_length=len(get_args(WarningName)))] = (
        "drift", "disagreement",
    )  # fmt: skip
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
    negligible_errors: Annotated[float, Meta(ge=0, lt=0.5)] = NEGLIGIBLE_ERRORS
    """Share of errors that matters to nobody: surely below it a release is no worse."""

    @property
    def names(self) -> tuple[MetricName, ...]:
        """Metrics to be read: those that judge, then those that only warn."""
        warns = [name for name in self.warnings if name not in self.metrics]
        return (*self.metrics, *warns)

    def gate(self) -> Gate:
        """The rules, fixed before a wave starts."""
        judging = [METRICS[name].rule(self) for name in self.metrics]
        own = [item.metric(self.false_stop) for item in self.custom]
        rest = self.names[len(self.metrics) :]
        warning = [replace(METRICS[name].rule(self), part="warn") for name in rest]
        return Gate(
            metrics=(*judging, *own, *warning),
            looks=self.looks,
            install_failure_rate=self.install_failure_rate,
            install_false_stop=self.false_stop,
        )

    def check(self) -> None:
        """Raise ProtocolError for what can't be meant."""
        names = [item.name for item in self.custom]
        if not self.metrics and all(item.warn for item in self.custom):
            raise ProtocolError("gate: no metric in it could hold a wave back or stop it")
        proving = [name for name in self.metrics if METRICS[name].rule(self).part == "gate"]
        if not proving and all(item.warn for item in self.custom):
            only = " and ".join(self.metrics)
            raise ProtocolError(f"gate: {only} alone holds no wave back: name another metric, too")
        taken = {metric.rule(self).name for metric in METRICS.values()} | {*METRICS}
        for name in names:
            if names.count(name) > 1 or name in taken:
                raise ProtocolError(f"gate: {name!r} is the name of another metric")
        for item in self.custom:
            item.check()
