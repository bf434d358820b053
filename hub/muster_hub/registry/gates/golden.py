"""Enough golden vectors, all of which the check reproduced."""

from typing import Annotated

from msgspec import Meta, Struct

from muster_hub.registry.gates.base import GateVerdict, Shown


class GoldenRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="golden",
                 tag_field="gate"):  # fmt: skip
    """How many cases there must be."""

    cases_min: Annotated[int, Meta(ge=1)] = 1


class GoldenGate:
    """Goes by the build with the fewest."""

    def judge(self, rule: GoldenRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        counts = [int(facts.get("golden_cases") or 0) for facts in candidate.builds]
        least = min(counts, default=0)
        ok = least >= rule.cases_min
        says = f"{least} cases" if ok else f"{least} cases are fewer than {rule.cases_min}"
        return GateVerdict("golden", says, least, rule.cases_min, ok=ok)


GATE = GoldenGate()
