"""A metric alike for all groups: by the ratio of the lowest to the highest, or their difference."""

from typing import Annotated

from msgspec import Meta, Struct

from muster_hub.registry.gates.base import GateVerdict, Shown
from muster_protocol.wire.bounds import Amount, Line
from muster_protocol.wire.card import metrics_by_group

ROWS = "rows"


class FairnessRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fairness",
                   tag_field="gate"):  # fmt: skip
    """``group`` is the column that metrics were kept apart by (``pack --group``)."""

    metric: Line
    group: Line
    rows_min: Annotated[int, Meta(ge=1)] = 30
    """Groups with fewer rows are left out, and said."""
    ratio_min: Annotated[float, Meta(gt=0, le=1)] | None = None
    difference_max: Amount | None = None


class FairnessGate:
    """Refuses what can't be judged: fewer than two groups that are large enough."""

    def judge(self, rule: FairnessRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        gate = f"fairness {rule.metric} by {rule.group}"
        metrics = candidate.metrics
        rows = metrics_by_group(metrics, ROWS, rule.group)
        found = metrics_by_group(metrics, rule.metric, rule.group)
        judged = {
            name: value for name, value in found.items() if rows.get(name, 0) >= rule.rows_min
        }
        small = sorted(found.keys() - judged.keys())
        detail = {"groups": judged, "too_small": small}
        if len(judged) < 2:
            says = (
                f"{len(judged)} groups have {rule.rows_min} rows or more, 2 are needed "
                f"(groups: {', '.join(sorted(found)) or 'none; pack with --group ' + rule.group})"
            )
            return GateVerdict(gate, ok=False, says=says, detail=detail)
        low, high = min(judged, key=judged.__getitem__), max(judged, key=judged.__getitem__)
        between = f"{low} {judged[low]:g}, {high} {judged[high]:g}"
        apart = judged[high] - judged[low]
        ratio = judged[low] / judged[high] if judged[high] > 0 else 1.0
        left = f"; too small to judge: {', '.join(small)}" if small else ""
        if rule.ratio_min is not None and ratio < rule.ratio_min:
            says = f"ratio {ratio:.3g} is below {rule.ratio_min:g} ({between}){left}"
            return GateVerdict(gate, says, ratio, rule.ratio_min, detail=detail, ok=False)
        if rule.difference_max is not None and apart > rule.difference_max:
            says = f"difference {apart:.3g} is above {rule.difference_max:g} ({between}){left}"
            return GateVerdict(gate, says, apart, rule.difference_max, detail=detail, ok=False)
        says = f"ratio {ratio:.3g}, difference {apart:.3g} ({between}){left}"
        return GateVerdict(gate, says, ratio, rule.ratio_min, detail=detail, ok=True)


GATE = FairnessGate()
