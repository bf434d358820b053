"""What a rollout's row keeps in its JSON columns, as types: the one place that reads and writes it.

What is there already stays readable: a field that came later has a default, one that went is
ignored.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from muster_hub.errors import HubError
from muster_hub.rollouts.members import Judged
from muster_hub.rollouts.shadows import Shadow
from muster_hub.storage import models

Kept = TypeVar("Kept")


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What a rollout's assignment held before the rollout completed."""

    model: str
    version: str
    rollout: int | None = None
    window_seconds: float | None = None


def judged(row: models.Rollout) -> Judged | None:
    """The gate's latest verdict; None before there was one. Raises HubError, as do the others."""
    return _convert(row.id, "judged", row.judged, Judged)


def put_judged(row: models.Rollout, value: Judged) -> None:
    """Keep a verdict in place of the last."""
    row.judged = _plain(value)


def shadow(row: models.Rollout) -> Shadow | None:
    """The shadow before the first wave; None before it has begun."""
    return shadow_of(row.id, row.shadow)


def shadow_of(rollout: int | None, stored: dict[str, Any] | None) -> Shadow | None:
    """The shadow from its column, where the whole row isn't read."""
    return _convert(rollout, "shadow", stored, Shadow)


def put_shadow(row: models.Rollout, value: Shadow) -> None:
    """Keep how a shadow stands."""
    row.shadow = _plain(value)


def replaced(row: models.Rollout) -> Replaced | None:
    """What its assignment held before; None when there was none."""
    return _convert(row.id, "replaced", row.replaced, Replaced)


def put_replaced(row: models.Rollout, value: Replaced) -> None:
    """Keep what a rollback after completion goes back to."""
    row.replaced = _plain(value)


def _convert(
    rollout: int | None, column: str, stored: dict[str, Any] | None, kind: type[Kept]
) -> Kept | None:
    if stored is None:
        return None
    try:
        return msgspec.convert(stored, kind)
    except msgspec.ValidationError as error:
        raise HubError(f"rollout {rollout}: its {column} can't be read: {error}") from None


def _plain(value: object) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain
