"""A card in which people have said what the policy asks for."""

from typing import Annotated

from msgspec import Meta, Struct

from muster_hub.registry.gates.base import GateVerdict, Shown
from muster_protocol.wire.card import CardText

FIELDS = tuple(CardText.__struct_fields__)


class CardRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="card",
               tag_field="gate"):  # fmt: skip
    """What people must have said."""

    fields: Annotated[tuple[str, ...], Meta(min_length=1, max_length=len(FIELDS))] = (
        "intended_use", "limitations", "contact",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in self.fields:
            if name not in FIELDS:
                raise ValueError(f"a card has no field {name!r}; it has {', '.join(FIELDS)}")


class CardGate:
    """Whether it is true is for people to judge."""

    def judge(self, rule: CardRule, candidate: Shown, _champion: Shown | None) -> GateVerdict:
        if candidate.card is None:
            return GateVerdict("card", ok=False, says="there is none: pack with --card FILE.toml")
        held = candidate.card
        empty = [name for name in rule.fields if not getattr(held, name).strip()]
        says = f"it says nothing of {', '.join(empty)}" if empty else "complete"
        return GateVerdict("card", says, ok=not empty)


GATE = CardGate()
