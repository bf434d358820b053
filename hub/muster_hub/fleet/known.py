"""A device as decisions know it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muster_hub.storage import models

HEARD_SECONDS = 200.0
"""A device reports about every minute; one unheard of for three is taken as offline."""


@dataclass(frozen=True)
class Known:
    """A device, as far as decisions go."""

    id: str
    labels: Mapping[str, str]
    online: bool
    report: Mapping[str, Any] | None
    reported: float | None
    last_seen: float | None
    active: bool
    """Approved and not revoked."""
    created: float


def is_online(device: models.Device, now: float) -> bool:
    """Connected by its own word and the broker's, and heard of lately."""
    heard = device.last_seen is None or now - device.last_seen < HEARD_SECONDS
    return device.online and heard
