"""The gates there are before a release, one file each, and a model's policy made of them."""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

import msgspec

from muster_hub.errors import Invalid
from muster_hub.registry.gates import (
    baseline,
    card,
    fairness,
    golden,
    latency,
    metric,
    signature,
    size,
)
from muster_hub.registry.gates.base import GateVerdict, ReleaseGate, Shown
from muster_protocol.registry import Registry

GateKind = Literal[
    "metric", "fairness", "golden", "latency", "size", "baseline", "signature", "card"
]
Rule = (
    metric.MetricRule
    | fairness.FairnessRule
    | golden.GoldenRule
    | latency.LatencyRule
    | size.SizeRule
    | baseline.BaselineRule
    | signature.SignatureRule
    | card.CardRule
)
RULES_MAX = 64


def _gate_of(kind: GateKind) -> ReleaseGate[Any]:  # noqa: PLR0911 - one for each word
    match kind:
        case "metric":
            return metric.GATE
        case "fairness":
            return fairness.GATE
        case "golden":
            return golden.GATE
        case "latency":
            return latency.GATE
        case "size":
            return size.GATE
        case "baseline":
            return baseline.GATE
        case "signature":
            return signature.GATE
        case "card":
            return card.GATE
        case _:
            assert_never(kind)


GATES = Registry[GateKind, ReleaseGate[Any]]("release gate", GateKind, _gate_of)


def read_policy(stored: Any) -> tuple[Rule, ...]:
    """A policy of plain values: a list of gates. Raises Invalid that names what is wrong."""
    try:
        rules: tuple[Rule, ...] = msgspec.convert(stored, tuple[Rule, ...])
    except msgspec.ValidationError as error:
        raise Invalid(f"gates: {error}; there are the gates {', '.join(GATES)}") from None
    if len(rules) > RULES_MAX:
        raise Invalid(f"{len(rules)} gates, at most {RULES_MAX}")
    return rules


def judge(rules: Sequence[Rule], candidate: Shown, champion: Shown | None) -> list[GateVerdict]:
    """How each gate of a policy judges a version."""
    return [GATES.find(_kind(rule)).judge(rule, candidate, champion) for rule in rules]


def _kind(rule: Rule) -> str:
    return str(rule.__struct_config__.tag)


def refusal(verdicts: Sequence[GateVerdict]) -> str:
    """Why a version may not be released, gate by gate; empty when it may."""
    return "; ".join(f"gate {each.gate}: {each.says}" for each in verdicts if not each.ok)
