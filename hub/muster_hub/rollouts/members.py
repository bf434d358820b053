"""A rollout, the devices it concerns and what became of them, as values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from muster_hub.rollouts.evidence import DeviceEvidence
from muster_hub.rollouts.experiments import Arms, Experiment
from muster_hub.rollouts.gates.picture import MetricPicture
from muster_hub.rollouts.plan import Plan
from muster_hub.rollouts.shadows import Shadow

State = Literal["running", "paused", "stopped", "aborted", "completed", "rolled_back"]
DeviceState = Literal["targeted", "in_progress", "committed", "failed", "withdrawn"]
GateAction = Literal["stop", "advance", "wait"]
ENDED: frozenset[State] = frozenset({"stopped", "aborted", "completed", "rolled_back"})
WITHDRAWN: frozenset[State] = frozenset({"stopped", "aborted", "rolled_back"})
"""After these, devices go back to what they had."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The latest verdict of the gate, about the wave it was made in."""

    wave: int
    action: GateAction
    reason: str
    look: int = 0
    """Windows since the wave began, when it was made."""
    warnings: Mapping[str, str] = field(default_factory=dict)
    """In words, by metric: all that the wave has brought."""
    experiment: Experiment | None = None
    pictures: tuple[MetricPicture, ...] = ()
    """What each metric showed at the looks of this wave."""


@dataclass(frozen=True, kw_only=True)
class StagedRollout:
    """A rollout as decisions see it."""

    id: int
    state: State
    wave: int
    plan: Plan
    approved: int = -1
    """The last wave an operator has let begin; -1 is none."""
    advanced: int = -1
    """The last wave an operator has passed by hand, without its gate's word."""
    settled_at: float | None = None
    """Since when every device of the wave that is online is through."""
    looked_at: float | None = None
    """When it was last decided about: time in which nobody looked counts against no device."""
    judged: Judged | None = None
    shadow: Shadow | None = None
    """The shadow before the first wave, once it has begun."""
    arms: Arms | None = None
    """Who takes part in the experiment, once they are drawn."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A device the rollout has targeted, and what became of it."""

    wave: int
    state: DeviceState
    online_since: float | None
    """When its present stretch online began; None while offline."""
    online_seconds: float = 0.0
    """Spent online under way in earlier stretches: a device that flaps still runs out of time."""
    changed_at: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A device that matches the selector, or that the rollout has reached."""

    device: str
    labels: Mapping[str, str]
    online: bool
    matches: bool = True
    reached: Reached | None = None
    evidence: DeviceEvidence = field(default=DeviceEvidence(stage="unseen"))


def under_way(member: Member) -> bool:
    """Whether a device was asked, is online, and has not finished."""
    reached = member.reached
    return reached is not None and member.online and reached.state in ("targeted", "in_progress")


def count(members: list[Member], state: DeviceState, wave: int | None = None) -> int:
    """Devices in a state, of one wave or of all."""
    return sum(
        1
        for member in members
        if member.reached and member.reached.state == state and wave in (None, member.reached.wave)
    )
