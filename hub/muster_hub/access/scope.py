"""What a role is limited to: models by name, devices by selector. Pure.

A scope only ever takes away. The role ``admin`` has none: it makes tokens, and a token that can
make another one with more rights than it has itself would be no limit at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster_hub.errors import Invalid
from muster_protocol.wire import selectors
from muster_protocol.wire.selectors import Part, Selector
from muster_protocol.wire.topics import check_name

SCOPE_MODELS_MAX = 64
EVERY_DEVICE = Selector()


@dataclass(frozen=True)
class Scope:
    """What a role is limited to; without parts it is limited to nothing."""

    models: tuple[str, ...] = ()
    selector: Selector = EVERY_DEVICE

    @property
    def everything(self) -> bool:
        """It limits nothing."""
        return not self.models and not self.selector.parts

    def has_model(self, name: str) -> bool:
        """Whether a model is within it."""
        return not self.models or any(_matches(pattern, name) for pattern in self.models)

    def has_device(self, labels: Mapping[str, str]) -> bool:
        """Whether a device with these labels is within it."""
        return self.selector.matches(labels)

    def covers(self, selector: str) -> bool:
        """Whether ``selector`` can only match devices within the scope, going by its parts."""
        asked = selectors.parse(selector).parts
        return all(any(_implies(own, part) for own in asked) for part in self.selector.parts)

    def narrow(self, selector: str | None) -> str:
        """``selector`` with the scope's own parts added where it doesn't imply them already."""
        asked = selectors.parse(selector or "").parts
        missing = tuple(
            part for part in self.selector.parts if not any(_implies(own, part) for own in asked)
        )
        return str(Selector((*asked, *missing)))


EVERYTHING = Scope()


def read_scope(models: Sequence[str], selector: str, role: str) -> Scope:
    """A scope from plain values; raises Invalid or SelectorError."""
    if len(models) > SCOPE_MODELS_MAX:
        raise Invalid(f"{len(models)} models, the limit is {SCOPE_MODELS_MAX}")
    for pattern in models:
        if pattern != "*":
            check_name(pattern.removesuffix("*"), "model")
    scope = Scope(tuple(models), selectors.parse(selector))
    if role == "admin" and not scope.everything:
        raise Invalid("an admin can't be limited to models or devices: use another role")
    return scope


def _matches(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def _implies(asked: Part, wanted: Part) -> bool:
    """Whether a device for which ``asked`` holds is sure to be one for which ``wanted`` does."""
    if asked.key != wanted.key:
        return False
    have, want = set(asked.values), set(wanted.values)
    match (asked.operator, wanted.operator):
        case ("in", "in"):
            return have <= want
        case ("in", "notin"):
            return not have & want
        case ("notin", "notin"):
            return have >= want
        case ("in" | "exists", "exists") | ("absent", "absent" | "notin"):
            return True
        case _:
            return False
