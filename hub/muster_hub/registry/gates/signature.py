"""A ``model.sig`` by a key that the hub trusts."""

from msgspec import Struct

from muster_hub.registry.gates.base import GateVerdict, Shown


class SignatureRule(Struct, frozen=True, forbid_unknown_fields=True, tag="signature",
                    tag_field="gate"):  # fmt: skip
    """A signature is there; there is nothing to choose."""


class SignatureGate:
    """The hub's check has looked at it already."""

    def judge(self, _rule: SignatureRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        says = (
            "signed by a key the hub trusts"
            if candidate.signed
            else "there is no model.sig by one of [check] model_public: `muster-hub sign-model`"
        )
        return GateVerdict("signature", says, ok=candidate.signed)


GATE = SignatureGate()
