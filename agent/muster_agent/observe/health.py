"""A model's health in the words of NAMUR NE 107, which plants already act on."""

from collections.abc import Collection
from dataclasses import dataclass

from muster_protocol.messages import Ne107

ERROR_SHARE_MAX = 0.5
"""Above this share of failed requests a model that still runs is a failure all the same."""


@dataclass(frozen=True)
class Signs:
    """What is known of one slot."""

    serving: bool
    """A worker runs a model and accepts requests."""
    swapping: bool = False
    """A candidate is starting or on probation."""
    drifting: Collection[str] = ()
    """Features that drift."""
    inferences: int = 0
    """Answered by the model in the last window."""
    errors: int = 0
    """Failed in the last window."""
    labels_overdue: bool = False
    """Labels used to come and have stopped."""
    trouble: str = ""
    """What keeps the device from seeing its own state: features not counted, disk not writable."""


@dataclass(frozen=True)
class Health:
    state: Ne107
    reason: str


def judge(signs: Signs) -> Health:
    """The gravest state that holds, and why, in one line."""
    requests = signs.inferences + signs.errors
    if not signs.serving and not signs.swapping:
        return Health("failure", "no model is serving")
    if requests and signs.errors / requests > ERROR_SHARE_MAX:
        return Health("failure", f"{signs.errors} of {requests} requests failed")
    if signs.swapping:
        return Health("check_function", "another version is starting or on probation")
    if signs.drifting:
        named = sorted(signs.drifting)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return Health("off_spec", f"inputs drift: {', '.join(named[:3])}{more}")
    if signs.labels_overdue:
        return Health("maintenance_required", "labels are overdue")
    if signs.trouble:
        return Health("maintenance_required", signs.trouble)
    return Health("ok", "")
