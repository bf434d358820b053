"""The time of an inference in the hub's check: a bound for what is far too slow."""

from typing import Annotated

from msgspec import Meta, Struct

from muster_hub.registry.gates.base import GateVerdict, Shown


class LatencyRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="latency",
                  tag_field="gate"):  # fmt: skip
    """How long an inference may take."""

    milliseconds_max: Annotated[float, Meta(gt=0)]


class LatencyGate:
    """Goes by the slowest build."""

    def judge(self, rule: LatencyRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        known = [facts["latency_ms"] for facts in candidate.builds if facts.get("latency_ms")]
        if not known:
            return GateVerdict("latency", ok=False, says="the check measured none")
        value = max(known)
        ok = value <= rule.milliseconds_max
        says = f"{value:.3g} ms" + ("" if ok else f" is above {rule.milliseconds_max:g} ms")
        return GateVerdict("latency", says, value, rule.milliseconds_max, ok=ok)


GATE = LatencyGate()
