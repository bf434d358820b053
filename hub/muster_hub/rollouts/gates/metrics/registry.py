"""The metrics there are, one file each. Pure."""

from typing import Literal, assert_never

from muster_hub.rollouts.gates.metric import GateMetric
from muster_hub.rollouts.gates.metrics import (
    disagreement,
    drift,
    errors,
    missing_windows,
    p95_latency,
    wrong_labels,
)
from muster_protocol.registry import Registry

GateName = Literal["errors", "missing windows", "p95 latency", "wrong labels", "drift"]
"""Metrics that a plan may let stop a rollout."""
WarningName = Literal["drift", "disagreement"]
"""Metrics that a plan may have the operator warned of."""
MetricName = Literal[GateName, WarningName]


def _metric_of(name: MetricName) -> GateMetric:  # one for each word
    match name:
        case "errors":
            return errors.METRIC
        case "missing windows":
            return missing_windows.METRIC
        case "p95 latency":
            return p95_latency.METRIC
        case "wrong labels":
            return wrong_labels.METRIC
        case "drift":
            return drift.METRIC
        case "disagreement":
            return disagreement.METRIC
        case _:
            assert_never(name)


METRICS = Registry[MetricName, GateMetric]("gate metric", MetricName, _metric_of)
