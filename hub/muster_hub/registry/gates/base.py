"""What a gate is given of a version, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from muster_protocol.wire.card import CardText
from muster_protocol.wire.explanation import Explanation
from muster_protocol.wire.manifest import Manifest


@dataclass(frozen=True)
class Shown:
    """What is known of a version: what it was pushed with, and what the check found."""

    manifest: Manifest
    builds: tuple[Mapping[str, Any], ...] = ()
    """Each build's ``facts``."""
    card: CardText | None = None
    explanation: Explanation | None = None
    signed: bool = False
    """It has a ``model.sig`` that the hub has checked."""

    @property
    def metrics(self) -> dict[str, float]:
        """Those of its lineage."""
        return dict(self.manifest.lineage.metrics)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.manifest.model} {self.manifest.version}"


@dataclass(frozen=True)
class GateVerdict:
    """How a gate judged. ``says`` names gate, value and bound for people."""

    gate: str
    says: str
    value: float | None = None
    bound: float | None = None
    ok: bool = field(kw_only=True)
    detail: dict[str, Any] = field(default_factory=dict)


RuleT_contra = TypeVar("RuleT_contra", bound=Struct, contravariant=True)


class ReleaseGate(Protocol, Generic[RuleT_contra]):
    """One kind of condition."""

    def judge(self, rule: RuleT_contra, candidate: Shown, champion: Shown | None, /) -> GateVerdict:
        """Whether a version passes; the champion is what it would replace, if there is any."""
        ...
