"""A baseline, without which a device sees no drift."""

from msgspec import Struct

from muster_hub.registry.gates.base import GateVerdict, Shown


class BaselineRule(Struct, frozen=True, forbid_unknown_fields=True, tag="baseline",
                   tag_field="gate"):  # fmt: skip
    """A baseline is there; there is nothing to choose."""


class BaselineGate:
    """Whether it is of use is the check's business."""

    def judge(self, _rule: BaselineRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        ok = candidate.manifest.baseline is not None
        says = "there is one" if ok else "there is none: pack with --data and the training data"
        return GateVerdict("baseline", says, ok=ok)


GATE = BaselineGate()
