"""Rollouts: which devices are asked to run a release, when to go on, when to stop. Pure.

Wave after wave: a canary drawn at random within strata among devices that are online, the waves of
the plan, all others, and last those held back for comparison. A wave passes when every device of
it that is online has committed and soaked, its gate says that the release is no worse, and an
operator has approved where the plan asks for it. A failure beyond what the plan allows, or a gate
that stops, ends the rollout and withdraws it from every device it reached. Devices that are
offline are counted apart: they neither block nor pass a wave, and converge when they return.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from muster_hub.rollouts import words
from muster_hub.rollouts.members import (
    WITHDRAWN,
    DeviceState,
    Member,
    Reached,
    StagedRollout,
    State,
    count,
    under_way,
)
from muster_hub.rollouts.plan import CANARY, Stage, stages
from muster_hub.rollouts.targets import first_size, left, shadowed, targets

UNSEEN_SECONDS = 120.0
"""When nobody has looked for longer than this, the rest of that time counts against no device."""
FETCH_SECONDS_MAX = 86_400.0
"""Most that a device's download is waited for beyond the time-out: what it says is believed so far.
"""

Why = Literal[
    "asking", "waiting", "nobody", "soaking", "shadow", "gate", "experiment", "approval", "paused",
    "stopped", "completed", "ended",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows: the rollout's next state and wave, changed devices, newly targeted ones."""

    state: State
    wave: int
    reason: str
    why: Why
    """The kind of reason: history has an entry whenever it changes."""
    target: tuple[str, ...] = ()
    changed: Mapping[str, Reached] = field(default_factory=dict)
    settled_at: float | None = None
    shadow: tuple[str, ...] = ()
    """Devices that watch the release beside what runs, those that do already among them."""


def decide(rollout: StagedRollout, members: Iterable[Member], now: float) -> Decision:
    """The next step. Repeated with the same input it gives the same answer."""
    members = sorted(members, key=lambda member: member.device)
    unseen = _unseen_seconds(rollout, now)
    changed: dict[str, Reached] = {}
    for member in members:
        if member.reached is not None:
            after = _follow(member.reached, member, rollout, now, unseen)
            if after != member.reached:
                changed[member.device] = after
    members = [
        replace(member, reached=changed.get(member.device, member.reached)) for member in members
    ]
    if rollout.settled_at is not None:
        rollout = replace(rollout, settled_at=min(rollout.settled_at + unseen, now))
    if rollout.state in WITHDRAWN:
        return Decision(
            state=rollout.state, wave=rollout.wave, reason="", why="ended", changed=changed
        )
    if rollout.state == "completed":
        reason = words.completed(members)
        return Decision(
            state="completed", wave=rollout.wave, reason=reason, why="completed", changed=changed
        )
    harm = _harm(rollout, members)
    if harm is not None:
        return _stop(rollout, harm, members, changed, now)
    if rollout.state == "paused":
        tally = words.tally(members, rollout.wave)
        reason = f"Paused in wave {words.wave(rollout.plan, rollout.wave)}: {tally}."
        return Decision(
            state="paused", wave=rollout.wave, reason=reason, why="paused", changed=changed,
            settled_at=rollout.settled_at,
        )  # fmt: skip
    return _advance(rollout, members, changed, now)


def _harm(rollout: StagedRollout, members: list[Member]) -> str | None:
    """Why it must be stopped, or None."""
    failures = [member for member in members if member.reached and member.reached.state == "failed"]
    if len(failures) > rollout.plan.failures_allowed or _canary_lost(rollout, members):
        return words.failed(rollout, failures, sum(1 for member in members if member.reached))
    if rollout.judged is not None and rollout.judged.action == "stop":
        where = words.wave(rollout.plan, rollout.wave)
        return f"Stopped in wave {where} by its gate. {rollout.judged.reason}"
    if rollout.shadow is not None and rollout.shadow.action == "stop":
        return f"Stopped in shadow, before any device ran it: {rollout.shadow.reason}"
    return None


def _unseen_seconds(rollout: StagedRollout, now: float) -> float:
    """How much time has passed in which nobody looked: the hub was down, or its clock jumped."""
    if rollout.looked_at is None:
        return 0.0
    return max(now - rollout.looked_at - UNSEEN_SECONDS, 0.0)


def _follow(
    reached: Reached, member: Member, rollout: StagedRollout, now: float, unseen: float
) -> Reached:
    """What became of a targeted device, by the evidence and its time-out clock."""
    if rollout.state in WITHDRAWN:
        return _withdrawn(reached, now)
    if reached.state in ("failed", "withdrawn"):
        return reached
    evidence = member.evidence
    if evidence.stage == "failed":
        return _to(reached, "failed", evidence.detail, now)
    if reached.state == "committed" or evidence.stage == "committed":
        return _to(reached, "committed", "", now)
    reached = _clocked(reached, member.online, now, unseen)
    state: DeviceState = "in_progress" if evidence.stage == "in_progress" else reached.state
    reached = _to(reached, state, evidence.detail, now)
    spent = reached.online_seconds
    if reached.online_since is not None:
        spent += now - reached.online_since
    # What the link can't carry any faster is no fault of the device or the release.
    idle = spent - min(evidence.fetch_seconds, FETCH_SECONDS_MAX)
    if member.online and idle >= rollout.plan.timeout_seconds and rollout.state != "completed":
        detail = f" ({evidence.detail})" if evidence.detail else ""
        return _to(
            reached,
            "failed",
            f"timed out: online for {spent:.0f} s without committing{detail}",
            now,
        )
    return reached


def _clocked(reached: Reached, online: bool, now: float, unseen: float) -> Reached:  # noqa: FBT001 (a fact, named by its parameter)
    """The time-out clock: it runs while the device is online and somebody looks."""
    since = reached.online_since
    if since is not None:
        since = min(since + unseen, now)
    if online:
        return replace(reached, online_since=now if since is None else since)
    if since is None:
        return reached
    return replace(
        reached, online_since=None, online_seconds=reached.online_seconds + (now - since)
    )


def _to(reached: Reached, state: DeviceState, detail: str, now: float) -> Reached:
    changed_at = reached.changed_at if state == reached.state else now
    return replace(reached, state=state, detail=detail, changed_at=changed_at)


def _withdrawn(reached: Reached, now: float) -> Reached:
    if reached.state in ("failed", "withdrawn"):
        return reached
    return _to(reached, "withdrawn", f"was {reached.state.replace('_', ' ')}", now)


def _canary_lost(rollout: StagedRollout, members: list[Member]) -> bool:
    """Every device the canary may reach has failed: nothing is left to learn from."""
    if rollout.wave != CANARY or rollout.plan.begins_with_all:
        return False
    reached = [member.reached for member in members if member.reached]
    full = len(reached) >= first_size(rollout, members)
    return bool(reached) and full and all(member.state == "failed" for member in reached)


def _stop(
    rollout: StagedRollout,
    reason: str,
    members: list[Member],
    changed: dict[str, Reached],
    now: float,
) -> Decision:
    for member in members:
        if member.reached is not None:
            after = _withdrawn(member.reached, now)
            if after != member.reached:
                changed[member.device] = after
    return Decision(
        state="stopped", wave=rollout.wave, reason=reason, why="stopped", changed=changed
    )


def _advance(
    rollout: StagedRollout, members: list[Member], changed: dict[str, Reached], now: float
) -> Decision:
    """Ask whom the wave has room for; go to the next once nothing holds this one."""
    every = stages(rollout.plan)
    if _shadowing(rollout):
        return _in_shadow(rollout, members, changed)
    if rollout.wave == CANARY and rollout.plan.begins_with_all:
        rollout = replace(rollout, wave=CANARY + 1)
    while True:
        last = rollout.wave == len(every) - 1
        decision = _in_wave(rollout, members, changed, now, last=last)
        if decision is not None:
            return decision
        if last:
            reason = words.completed(members)
            return Decision(
                state="completed", wave=rollout.wave, reason=reason, why="completed",
                changed=changed,
            )  # fmt: skip
        rollout = replace(rollout, wave=rollout.wave + 1, settled_at=None)


def _shadowing(rollout: StagedRollout) -> bool:
    """The release is still watched, or is to be once its beginning is approved."""
    if rollout.plan.shadow is None or rollout.wave != CANARY:
        return False
    if rollout.shadow is not None:
        return rollout.shadow.action == "wait"
    first = CANARY + 1 if rollout.plan.begins_with_all else CANARY
    return not stages(rollout.plan)[first].approve or rollout.approved >= first


def _in_shadow(
    rollout: StagedRollout, members: list[Member], changed: dict[str, Reached]
) -> Decision:
    devices = shadowed(rollout, members)
    shadow = rollout.shadow
    if not devices:
        why: Why = "nobody"
        reason = f"Shadow: {words.nobody(members)}."
    else:
        why = "shadow"
        begun = f"{words.names(devices)} will watch it beside what they run."
        reason = f"Shadow: {shadow.reason if shadow and shadow.reason else begun}"
    return Decision(
        state="running", wave=rollout.wave, why=why, reason=reason, changed=changed, shadow=devices
    )


@dataclass(frozen=True)
class _Look:
    """The present wave as its checks see it."""

    rollout: StagedRollout
    members: list[Member]
    stage: Stage
    tally: str
    settled_at: float
    now: float
    last: bool


def _in_wave(
    rollout: StagedRollout,
    members: list[Member],
    changed: dict[str, Reached],
    now: float,
    *,
    last: bool,
) -> Decision | None:
    """What the present wave does or waits for; None when it has passed."""
    stage = stages(rollout.plan)[rollout.wave]
    target: tuple[str, ...] = ()
    settled = rollout.settled_at if rollout.settled_at is not None else now
    waits: tuple[Why, str] | None
    if stage.approve and rollout.approved < rollout.wave:
        waits = "approval", "waiting for an operator's approval to begin"
    elif target := targets(rollout, members):
        tally = words.tally(members, rollout.wave, len(target))
        waits = "asking", f"{tally}; asking {words.names(target)}"
    else:
        tally = words.tally(members, rollout.wave)
        look = _Look(rollout, members, stage, tally, settled, now, last)
        checks = (_busy, _unproved, _tried, _soaking, _gated)
        waits = next((found for check in checks if (found := check(look))), None)
    if waits is None:
        return None
    why, reason = waits
    return Decision(
        state="running", wave=rollout.wave, why=why, target=target, changed=changed,
        reason=f"Wave {words.wave(rollout.plan, rollout.wave)}: {reason}.",
        settled_at=settled if why in ("soaking", "gate", "experiment") else None,
    )  # fmt: skip


def _busy(look: _Look) -> tuple[Why, str] | None:
    """Devices under way, or some that could be asked when there is room."""
    busy = [member.device for member in look.members if under_way(member)]
    if busy:
        return "waiting", f"{look.tally}; waiting for {words.names(busy)}"
    unasked = left(look.rollout, look.members) if look.rollout.wave != CANARY else []
    away = [member.device for member in unasked]
    if away and any(member.online for member in unasked):
        return "waiting", f"{look.tally}; waiting for room to ask {words.names(away)}"
    return None


def _unproved(look: _Look) -> tuple[Why, str] | None:
    """Nobody has committed, so nothing is known yet.

    A wave that concerns nobody passes, and one whose failures are all allowed, and one that an
    operator has passed by hand.
    """
    if look.last:
        if count(look.members, "committed"):
            return None
        return "nobody", f"waiting, {words.nobody(look.members)}"
    wave = look.rollout.wave
    here = [member for member in look.members if member.reached and member.reached.wave == wave]
    failed = count(here, "failed")
    if count(here, "committed") or failed == len(here) > 0 or look.rollout.advanced >= wave:
        return None
    if not here:
        if wave != CANARY:
            return None
        nobody = words.nobody(look.members)
        if _experimenting(look.rollout) and not first_size(look.rollout, look.members):
            nobody = words.unpaired(look.rollout.plan, look.members)
        return "nobody", f"{look.tally}; {nobody}"
    kind = "canary device" if wave == CANARY else "device of it"
    return "nobody", f"{look.tally}; waiting for a {kind} to commit"


def _experimenting(rollout: StagedRollout) -> bool:
    return rollout.wave == CANARY and rollout.plan.experiment is not None


def _tried(look: _Look) -> tuple[Why, str] | None:
    """An experiment waits for its verdict, and then for an operator: it never goes on by itself."""
    rollout = look.rollout
    if not _experimenting(rollout) or rollout.advanced >= rollout.wave:
        return None
    outcome = (
        rollout.judged.reason.rstrip(".") if rollout.judged else "it has not been looked at yet"
    )
    return "experiment", f"{look.tally}; {outcome}"


def _soaking(look: _Look) -> tuple[Why, str] | None:
    if look.last or _experimenting(look.rollout) or not _committed_here(look):
        return None
    left_seconds = look.stage.soak_seconds - max(look.now - look.settled_at, 0.0)
    if left_seconds <= 0:
        return None
    return "soaking", f"{look.tally}; soaking for {left_seconds:.0f} s more"


def _gated(look: _Look) -> tuple[Why, str] | None:
    rollout = look.rollout
    by_hand = rollout.advanced >= rollout.wave
    if rollout.plan.gate is None or look.last or by_hand or not _committed_here(look):
        return None
    judged = rollout.judged
    if judged is None or judged.wave != rollout.wave:
        return "gate", f"{look.tally}; the gate has not looked yet"
    match judged.action:
        case "advance":
            return None
        case "wait" | "stop":
            return "gate", f"{look.tally}; at the gate: {judged.reason.rstrip('.')}"
        case _:
            assert_never(judged.action)


def _committed_here(look: _Look) -> bool:
    return count(look.members, "committed", look.rollout.wave) > 0
