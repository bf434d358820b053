"""What every importer offers: find out what a name stands for now, and bring it. Pure."""

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from muster_protocol.wire import bounds, limits
from muster_protocol.wire.manifest import METRICS_MAX, Lineage

FILES_MAX = limits.FILES_PER_BUNDLE_MAX
BYTES_MAX = limits.BUNDLE_BYTES_MAX
"""Of all files of a model together."""
SMALL_BYTES_MAX = 4 * limits.MIB
"""Of a file that says something about a model, such as a listing or an input example."""


@dataclass(frozen=True)
class Found:
    """What a name stands for at the moment. It changes when the source has something new."""

    identity: str
    """Names exactly this content for ever, such as a registry's version or a commit."""
    name: str
    """Of the model, as its source has it."""
    version: str = ""
    """As its source counts; empty: it doesn't."""
    origin: Lineage = field(default_factory=Lineage)
    detail: Any = None
    """What the importer itself needs to bring it."""


@dataclass(frozen=True)
class Brought:
    """A model's file on this machine, and what its source says of it."""

    model: Path
    origin: Lineage
    options: dict[str, Any] = field(default_factory=dict)
    """Options of packing that the source answers, such as a sample or the classes."""


class Importer(Protocol):
    """A kind of source."""

    form: str
    """How a place is written behind the scheme."""

    def find(self, place: str, /) -> Found:
        """What stands there now; nothing large is fetched. Raises OperatorError."""
        ...

    def bring(self, found: Found, room: Path, /) -> Brought:
        """Fetch it into the folder ``room``, or use it where it lies. Raises OperatorError.

        What an earlier call left in the room is used again.
        """
        ...


def lineage(
    *,
    source: str,
    commit: str = "",
    data: str = "",
    trained_at: str = "",
    metrics: dict[str, Any] | None = None,
    notes: str = "",
) -> Lineage:
    """What a source says, as far as a manifest takes it: cut to size, numbers finite."""

    def text(value: str) -> str:
        return bounds.clean(value)[: limits.TEXT_CHARS_MAX]

    numbers = {
        bounds.clean(str(name), line=True)[: limits.LINE_CHARS_MAX]: float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and abs(value) <= limits.NUMBER_MAX
    }
    return Lineage(
        source=text(source),
        commit=text(commit),
        data=text(data),
        trained_at=text(trained_at),
        metrics=dict(sorted(numbers.items())[:METRICS_MAX]),
        notes=text(notes),
    )
