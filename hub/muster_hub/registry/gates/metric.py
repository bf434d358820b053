"""A metric of the lineage within bounds, and not worse than the champion's."""

from msgspec import Struct

from muster_hub.registry.gates.base import GateVerdict, Shown
from muster_protocol.wire.bounds import Amount, Finite, Line


class MetricRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="metric",
                 tag_field="gate"):  # fmt: skip
    """Bounds are inclusive."""

    metric: Line
    min: Finite | None = None
    max: Finite | None = None
    drop_max: Amount | None = None
    """Below the champion's at most; ``rise_max`` above it."""
    rise_max: Amount | None = None


class MetricGate:
    """Refuses where the metric is missing; without a champion only fixed bounds count."""

    def judge(self, rule: MetricRule, candidate: Shown, champion: Shown | None) -> GateVerdict:
        gate = f"metric {rule.metric}"
        value = candidate.metrics.get(rule.metric)
        if value is None:
            known = ", ".join(sorted(candidate.metrics)[:8]) or "none"
            return GateVerdict(
                gate, ok=False, says=f"the lineage has no such metric (it has {known})"
            )
        for least, bound, what in _bounds(rule, champion):
            if value < bound if least else value > bound:
                word = "below" if least else "above"
                return GateVerdict(
                    gate, f"{value:g} is {word} {bound:g} ({what})", value, bound, ok=False
                )
        bounds = [*_bounds(rule, champion)]
        last = bounds[-1][1] if bounds else None
        return GateVerdict(gate, f"{value:g}", value, last, ok=True)


GATE = MetricGate()


def _bounds(rule: MetricRule, champion: Shown | None) -> list[tuple[bool, float, str]]:
    """(Whether it is a least value, the bound, where it is from)."""
    found = []
    if rule.min is not None:
        found.append((True, rule.min, "the policy's least"))
    if rule.max is not None:
        found.append((False, rule.max, "the policy's most"))
    held = None if champion is None else champion.metrics.get(rule.metric)
    if champion is not None and held is not None:
        if rule.drop_max is not None:
            found.append((True, held - rule.drop_max, f"champion {champion.name}: {held:g}"))
        if rule.rise_max is not None:
            found.append((False, held + rule.rise_max, f"champion {champion.name}: {held:g}"))
    return found
