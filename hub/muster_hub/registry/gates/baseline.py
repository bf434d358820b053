"""A baseline, without which a device sees no drift."""

from msgspec import Struct

from muster_hub.registry.gates.base import Shown, Verdict


class BaselineRule(Struct, frozen=True, forbid_unknown_fields=True, tag="baseline",
                   tag_field="gate"):  # fmt: skip
    pass


class BaselineGate:
    """Whether it is of use is the check's business."""

    def judge(self, _rule: BaselineRule, candidate: Shown, _champion: Shown | None) -> Verdict:
        ok = candidate.manifest.baseline is not None
        says = "there is one" if ok else "there is none: pack with --data and the training data"
        return Verdict("baseline", says, ok=ok)


GATE = BaselineGate()
