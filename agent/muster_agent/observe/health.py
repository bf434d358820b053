"""A model's health in the words of NAMUR NE 107, which plants already act on. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from muster_protocol.wire.messages import Ne107

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
    feed: str = ""
    """What the slot's feeds lack: a source, a signal, a sink."""
    trouble: str = ""
    """What keeps the device from seeing its own state: features not counted, disk not writable."""


@dataclass(frozen=True)
class Health:
    """A NAMUR NE 107 state and its reason in words."""

    state: Ne107
    reason: str


def judge(signs: Signs) -> Health:
    """The gravest state that holds, and why, in one line."""
    requests = signs.inferences + signs.errors
    failing = requests > 0 and signs.errors / requests > ERROR_SHARE_MAX
    named = sorted(signs.drifting)
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    states: tuple[tuple[bool, Ne107, str], ...] = (
        (not signs.serving and not signs.swapping, "failure", "no model is serving"),
        (failing, "failure", f"{signs.errors} of {requests} requests failed"),
        (signs.swapping, "check_function", "another version is starting or on probation"),
        (bool(named), "off_spec", f"inputs drift: {', '.join(named[:3])}{more}"),
        (signs.labels_overdue, "maintenance_required", "labels are overdue"),
        (bool(signs.feed), "maintenance_required", signs.feed),
        (bool(signs.trouble), "maintenance_required", signs.trouble),
    )
    return next((Health(state, why) for holds, state, why in states if holds), Health("ok", ""))
