"""A device as decisions know it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_hub.storage import models
from muster_protocol.wire import directive, manifest

HEARD_SECONDS = 200.0
"""A device reports about every minute; one unheard of for three is taken as offline."""


NEWER = {
    manifest.UNDERSTANDS: "no manifest of format 2",
    manifest.BASELINE_UNDERSTANDS: "no baseline of format 2",
    directive.AGENT: "no orders for itself (older, or not started by muster-agent-launch)",
}
"""What an agent may not read of a release, in words."""


def in_words(needs: Collection[str]) -> str:
    """What an agent doesn't read."""
    return " and ".join(words for need, words in NEWER.items() if need in needs)


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
    diagnoses: int = 0
    """How often an operator has asked what is wrong on it."""
    feed_watches: int = 0
    """How often somebody has begun to watch its feeds."""
    restarts: int = 0
    """How often an operator has asked that its agent starts anew."""
    restart_until: float | None = None
    """Until when it may obey the latest such request."""
    log_watches: int = 0
    """How often somebody has begun to watch its log."""
    log_watched: float | None = None
    """When somebody did so last."""
    revision: int = 0
    """Of the latest change by anyone but the device."""

    @property
    def understands(self) -> Collection[str]:
        """Fields of a directive that its agent knows beyond those of the format's first day."""
        found: Collection[str] = ((self.report or {}).get("facts") or {}).get("understands") or ()
        return found

    def reads(self, needs: Collection[str]) -> bool:
        """Whether its agent reads all that a release has; ``NEWER`` names what there is."""
        return all(need in self.understands for need in needs)

    def words_of_old_agent(self, needs: Collection[str]) -> str:
        """What to do where it doesn't."""
        version = ((self.report or {}).get("facts") or {}).get("agent_version", "unknown")
        unread = [need for need in needs if need not in self.understands]
        return f"its agent ({version}) reads {in_words(unread)}: update the agent"


def is_online(device: models.Device, now: float) -> bool:
    """Connected by its own word and the broker's, and heard of lately."""
    return heard(device.online, device.last_seen, now)


def heard(online: bool, last_seen: float | None, now: float) -> bool:  # noqa: FBT001  # a column
    """The same, of a device's columns."""
    return online and (last_seen is None or now - last_seen < HEARD_SECONDS)
