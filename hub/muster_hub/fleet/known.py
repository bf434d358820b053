"""A device as decisions know it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_hub.storage import models
from muster_protocol.wire import manifest

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
    retries: Mapping[str, int] = field(default_factory=dict)
    """Slot → fresh tries that an operator has asked for."""
    revision: int = 0
    """Of the latest change by anyone but the device."""

    @property
    def understands(self) -> Collection[str]:
        """Fields of a directive that its agent knows beyond those of the format's first day."""
        found: Collection[str] = ((self.report or {}).get("facts") or {}).get("understands") or ()
        return found

    def reads(self, manifest_format: int) -> bool:
        """Whether its agent reads manifests of this format."""
        return manifest_format == 1 or manifest.UNDERSTANDS in self.understands

    def words_of_old_agent(self, manifest_format: int) -> str:
        """What to do where it doesn't."""
        version = ((self.report or {}).get("facts") or {}).get("agent_version", "unknown")
        return (
            f"its agent ({version}) reads no manifest of format {manifest_format}: update the agent"
        )


def is_online(device: models.Device, now: float) -> bool:
    """Connected by its own word and the broker's, and heard of lately."""
    return heard(device.online, device.last_seen, now)


def heard(online: bool, last_seen: float | None, now: float) -> bool:  # noqa: FBT001  # a column
    """The same, of a device's columns."""
    return online and (last_seen is None or now - last_seen < HEARD_SECONDS)
