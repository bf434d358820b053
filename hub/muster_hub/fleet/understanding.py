"""What a device's agent understands of what came after the first formats, as it reports it."""

from muster_hub.errors import Conflict
from muster_hub.storage import models


def require(device: models.Device, field: str, *, lacks: str, instead: str) -> None:
    """Raise Conflict, with words for people, unless its agent lists the directive's ``field``."""
    facts = (device.report or {}).get("facts") or {}
    if field not in (facts.get("understands") or ()):
        version = facts.get("agent_version", "unknown")
        raise Conflict(f"the agent on {device.id!r} ({version}) {lacks}: update it, or {instead}")
