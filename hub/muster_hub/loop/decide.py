"""When a loop opens and which state it goes to next. Pure.

wanted → training → checking → signing → rollout → closed. From each of them it may also end as
``failed`` (something said no) or ``abandoned`` (nobody did anything in time, or somebody ended it).
At most one loop of a model is open; one drift opens one loop, however long it lasts.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

from muster_hub.settings.loop import DAY_SECONDS, ENDED, LoopState, LoopTerms

MONTH_SECONDS = 30 * DAY_SECONDS
RunState = Literal["", "running", "succeeded", "failed"]


@dataclass(frozen=True)
class Memory:
    """What is kept of a model's drift between two looks."""

    since: float | None = None
    """Since when enough devices have drifted without a break."""
    armed: bool = True
    """False from a loop's opening until the drift has gone."""


@dataclass(frozen=True, kw_only=True)
class ModelSeen:
    """A model at a moment, as far as opening a loop goes by it."""

    drifting: int = 0
    """Devices on which it drifts."""
    open: bool = False
    """A loop of it is open."""
    busy: str = ""
    """What else is under way with the model, in words; empty: nothing."""
    runs: int = 0
    """Trainings started in the last 30 days."""
    ended: float | None = None
    """When its last loop ended."""


@dataclass(frozen=True, kw_only=True)
class LoopSeen:
    """An open loop at a moment."""

    state: LoopState
    deadline: float
    approved: bool = False
    run: RunState = ""
    run_fault: str = ""
    """Why the training failed, or couldn't be started for good."""
    version: str = ""
    """The candidate; empty: there is none yet."""
    version_status: str = ""
    version_reason: str = ""
    rollout_state: str = ""
    """Of the newest rollout of the candidate; empty: there is none."""
    rollout_reason: str = ""


@dataclass(frozen=True)
class LoopMove:
    """The next state of a loop, and why."""

    state: LoopState
    reason: str


def held_back(terms: LoopTerms, seen: ModelSeen, now: float) -> str:
    """Why no loop may open now, in words; empty: it may."""
    if seen.open:
        return "a loop of this model is open"
    if seen.busy:
        return seen.busy
    if seen.runs >= terms.runs_per_30_days:
        return f"{seen.runs} trainings in 30 days, {terms.runs_per_30_days} are allowed"
    if seen.ended is not None and now - seen.ended < terms.cooldown_seconds:
        left = terms.cooldown_seconds - (now - seen.ended)
        return f"cooling down for another {left / 3600:.1f} h"
    return ""


def trigger(terms: LoopTerms, before: Memory, seen: ModelSeen, now: float) -> tuple[Memory, bool]:
    """What to remember, and whether a loop opens now.

    The drift counts as gone only when fewer than half of ``drift_devices`` drift: a number that
    wavers about the mark opens no second loop. What is held back opens later if it still drifts.
    """
    if seen.drifting < terms.drift_devices:
        gone = 2 * seen.drifting < terms.drift_devices
        return Memory(None, before.armed or gone), False
    since = now if before.since is None or before.since > now else before.since
    due = before.armed and now - since >= terms.drift_after_seconds
    if due and not held_back(terms, seen, now):
        return Memory(since, armed=False), True
    return Memory(since, before.armed), False


def advance(loop: LoopSeen, now: float) -> LoopMove | None:
    """Where a loop goes from its state; None: it stays, for ever once it has ended."""
    if loop.state in ENDED:
        return None
    move = _next(loop)
    if move is None and now >= loop.deadline:
        return LoopMove("abandoned", _too_late(loop))
    return move


def seconds_of(terms: LoopTerms, state: LoopState) -> float:
    """For how long a loop may stay in a state; infinity: for ever."""
    match state:
        case "wanted":
            return terms.approval_seconds
        case "training":
            return terms.training_seconds
        case "checking":
            return terms.checking_seconds
        case "signing":
            return terms.signing_seconds
        case "rollout":
            return terms.rollout_seconds
        case "closed" | "failed" | "abandoned":
            return float("inf")
        case _:
            assert_never(state)


def _next(loop: LoopSeen) -> LoopMove | None:
    match loop.state:
        case "wanted":
            return LoopMove("training", "approved") if loop.approved else None
        case "training":
            return _from_training(loop)
        case "checking" | "signing":
            return _by_version(loop)
        case "rollout":
            return _by_rollout(loop)
        case "closed" | "failed" | "abandoned":
            return None
        case _:
            assert_never(loop.state)


def _from_training(loop: LoopSeen) -> LoopMove | None:
    if loop.version:
        return LoopMove("checking", f"version {loop.version} is the candidate")
    if loop.run == "failed":
        return LoopMove("failed", f"the training failed: {loop.run_fault or 'no reason given'}")
    return None


def _by_version(loop: LoopSeen) -> LoopMove | None:
    status = loop.version_status
    if status == "rejected":
        return LoopMove("failed", f"the candidate was rejected: {loop.version_reason}")
    if status in {"retired", ""}:
        return LoopMove("failed", "the candidate is gone")
    if status in {"published", "signed"}:
        return LoopMove("rollout", "the candidate is signed; somebody must roll it out")
    if status in {"awaiting_approval", "awaiting_signatures"} and loop.state == "checking":
        return LoopMove("signing", "the candidate passed; people must sign it")
    return None


def _by_rollout(loop: LoopSeen) -> LoopMove | None:
    if loop.rollout_state == "completed":
        return LoopMove("closed", "the candidate is rolled out")
    if loop.rollout_state in {"stopped", "aborted", "rolled_back"}:
        why = f": {loop.rollout_reason}" if loop.rollout_reason else ""
        return LoopMove("failed", f"the rollout was {loop.rollout_state}{why}")
    return None


def _too_late(loop: LoopSeen) -> str:
    waited = {
        "wanted": "nobody approved it in time",
        "training": "no candidate came in time"
        + (f" (the run {loop.run})" if loop.run else " (no run could be started)"),
        "checking": "the check did not end in time",
        "signing": "nobody signed the candidate in time",
        "rollout": "the candidate was not rolled out in time",
    }
    return waited.get(loop.state, "out of time")
