"""Rollouts: which devices are asked to run a release, when to go on, when to stop. Pure.

A canary first: random within strata, seeded by the rollout, among devices that are online. When
every canary device that is online has COMMITTED and soaked, all others. A failure beyond what the
plan allows stops the rollout and withdraws it from every device it reached. Devices that are
offline are counted apart: they neither block nor pass a wave, and converge when they return.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from muster_hub.domain.evidence import Evidence
from muster_protocol.errors import ProtocolError

State = Literal["running", "paused", "stopped", "aborted", "completed"]
DeviceState = Literal["targeted", "in_progress", "committed", "failed", "withdrawn"]
CANARY, ALL = 0, 1
WAVE_NAMES = ("canary", "all")
ENDED: frozenset[State] = frozenset({"stopped", "aborted", "completed"})
NAMED_MAX = 5
"""Devices named in a reason; the rest are counted."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout proceeds; fixed when it starts."""

    canary: Annotated[float, Meta(ge=0)] = 0.25
    """Below 1 a fraction of the matching devices, from 1 a number of them; 0 is no canary."""
    min_soak_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """How long the canary must have been committed before the others follow."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 1800.0
    """How long a device may take while online; longer is a failure."""
    failures_allowed: Annotated[int, Meta(ge=0)] = 0
    in_flight_max: Annotated[int, Meta(ge=0)] = 0
    """Most devices under way at once; 0 is no such limit."""
    strata: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    """Labels in whose groups the canary is drawn in proportion."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    id: int
    state: State
    wave: int
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A device the rollout has targeted, and what became of it."""

    wave: int
    state: DeviceState
    online_since: float | None
    """When the time-out clock started; None while offline."""
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
    evidence: Evidence = field(default=Evidence(stage="unseen"))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows: the rollout's next state and wave, changed devices, newly targeted ones."""

    state: State
    wave: int
    reason: str
    target: tuple[str, ...] = ()
    changed: Mapping[str, Reached] = field(default_factory=dict)


def decide(rollout: Rollout, members: Iterable[Member], now: float) -> Decision:
    """The next step. Repeated with the same input it gives the same answer."""
    members = sorted(members, key=lambda member: member.device)
    changed: dict[str, Reached] = {}
    for member in members:
        if member.reached is not None:
            after = _follow(member.reached, member, rollout, now)
            if after != member.reached:
                changed[member.device] = after
    members = [replace(one, reached=changed.get(one.device, one.reached)) for one in members]
    if rollout.state in ("stopped", "aborted"):
        return _ended(rollout, changed, members)
    failed = [one for one in members if one.reached and one.reached.state == "failed"]
    if rollout.state != "completed" and len(failed) > rollout.plan.failures_allowed:
        return _stop(rollout, failed, members, changed, now)
    if rollout.state == "completed":
        return _ended(rollout, changed, members)
    if rollout.state == "paused":
        reason = f"Paused in wave {_wave(rollout.wave)}: {tally(members, rollout.wave)}."
        return Decision(state="paused", wave=rollout.wave, reason=reason, changed=changed)
    return _advance(rollout, members, changed, now)


def _follow(reached: Reached, member: Member, rollout: Rollout, now: float) -> Reached:
    """What became of a targeted device, by the evidence and its time-out clock."""
    if rollout.state in ("stopped", "aborted"):
        return _withdrawn(reached, now)
    if reached.state in ("failed", "withdrawn"):
        return reached
    evidence = member.evidence
    if evidence.stage == "failed":
        return _to(reached, "failed", evidence.detail, now)
    if reached.state == "committed" or evidence.stage == "committed":
        return _to(reached, "committed", "", now)
    since = reached.online_since
    if not member.online:
        since = None
    elif since is None or since > now:
        since = now
    state: DeviceState = "in_progress" if evidence.stage == "in_progress" else reached.state
    reached = replace(_to(reached, state, evidence.detail, now), online_since=since)
    late = since is not None and now - since >= rollout.plan.timeout_seconds
    if late and rollout.state != "completed":
        told = f" ({evidence.detail})" if evidence.detail else ""
        words = f"timed out: online for {now - (since or now):.0f} s without committing{told}"
        return _to(reached, "failed", words, now)
    return reached


def _to(reached: Reached, state: DeviceState, detail: str, now: float) -> Reached:
    changed_at = reached.changed_at if state == reached.state else now
    return replace(reached, state=state, detail=detail, changed_at=changed_at)


def _withdrawn(reached: Reached, now: float) -> Reached:
    if reached.state in ("failed", "withdrawn"):
        return reached
    return _to(reached, "withdrawn", f"was {reached.state.replace('_', ' ')}", now)


def _stop(
    rollout: Rollout,
    failed: list[Member],
    members: list[Member],
    changed: dict[str, Reached],
    now: float,
) -> Decision:
    told = "; ".join(
        f"{one.device} {one.reached.detail}" for one in failed[:NAMED_MAX] if one.reached
    )
    reason = (
        f"Stopped in wave {_wave(rollout.wave)}: {len(failed)} of {_count(members)} reached "
        f"failed, {rollout.plan.failures_allowed} allowed: {told}."
    )
    for member in members:
        if member.reached is not None:
            after = _withdrawn(member.reached, now)
            if after != member.reached:
                changed[member.device] = after
    return Decision(state="stopped", wave=rollout.wave, reason=reason, changed=changed)


def _ended(rollout: Rollout, changed: dict[str, Reached], members: list[Member]) -> Decision:
    """After the end a rollout's reason stays; a completed one still counts who converges."""
    reason = ""
    if rollout.state == "completed":
        reason = _completed_words(members)
    return Decision(state=rollout.state, wave=rollout.wave, reason=reason, changed=changed)


def _advance(
    rollout: Rollout, members: list[Member], changed: dict[str, Reached], now: float
) -> Decision:
    wave = rollout.wave
    if wave == CANARY and rollout.plan.canary == 0:
        wave = ALL
    if wave == CANARY:
        if _canary_lost(rollout.plan, members):
            failed = [one for one in members if one.reached and one.reached.state == "failed"]
            return _stop(rollout, failed, members, changed, now)
        waits = _canary_waits(rollout, members, now)
        if waits is not None:
            return _canary(rollout, members, changed, waits)
        wave = ALL
    target = _all_targets(rollout.plan, members)
    if target or any(_under_way(one) for one in members):
        reason = f"Wave {_wave(wave)}: {tally(members, wave, len(target))}."
        if target:
            reason += f" Asking {_names(target)}."
        return Decision(state="running", wave=wave, reason=reason, target=target, changed=changed)
    if not any(one.reached and one.reached.state == "committed" for one in members):
        reason = f"Wave {_wave(wave)}: waiting, {_nobody(members)}."
        return Decision(state="running", wave=wave, reason=reason, changed=changed)
    return Decision(state="completed", wave=wave, reason=_completed_words(members), changed=changed)


def _canary_waits(rollout: Rollout, members: list[Member], now: float) -> str | None:
    """What the canary still waits for, in words, or None when the others may follow."""
    canary = [one for one in members if one.reached and one.reached.wave == CANARY]
    committed = [one for one in canary if one.reached and one.reached.state == "committed"]
    waiting = [one.device for one in canary if _under_way(one)]
    if waiting:
        return f"waiting for {_names(waiting)}"
    if not committed:
        return "waiting for a canary device to commit" if canary else _nobody(members)
    latest = max(one.reached.changed_at for one in committed if one.reached)
    left = rollout.plan.min_soak_seconds - max(now - latest, 0.0)
    return f"soaking for {left:.0f} s more" if left > 0 else None


def _canary_lost(plan: Plan, members: list[Member]) -> bool:
    """Every device the canary may reach has failed: nothing is left to learn from."""
    reached = [one.reached for one in members if one.reached]
    full = len(reached) >= canary_size(plan, sum(1 for one in members if one.matches))
    return bool(reached) and full and all(one.state == "failed" for one in reached)


def _canary(
    rollout: Rollout, members: list[Member], changed: dict[str, Reached], waits: str
) -> Decision:
    target = _canary_targets(rollout, members)
    reason = f"Wave {_wave(CANARY)}: {tally(members, CANARY, len(target))}"
    reason += f"; asking {_names(target)}." if target else f"; {waits}."
    return Decision(state="running", wave=CANARY, reason=reason, target=target, changed=changed)


def _canary_targets(rollout: Rollout, members: list[Member]) -> tuple[str, ...]:
    """Draw what is missing of the canary among the devices online now."""
    reached = sum(1 for one in members if one.reached)
    wanted = canary_size(rollout.plan, sum(1 for one in members if one.matches))
    candidates = [one for one in members if one.matches and one.online and not one.reached]
    room = _room(rollout.plan, members, wanted - reached)
    return tuple(sorted(draw(rollout, candidates)[:room]))


def canary_size(plan: Plan, matching: int) -> int:
    """How many devices the canary may reach, of those that match."""
    if plan.canary >= 1:
        return min(int(plan.canary), matching)
    return min(max(round(plan.canary * matching), 1), matching)


def draw(rollout: Rollout, candidates: list[Member]) -> list[str]:
    """Candidates in random order, interleaved so that any prefix is proportional by stratum."""
    strata: dict[tuple[str, ...], list[str]] = {}
    labels = {one.device: one.labels for one in candidates}
    for device in sorted(labels, key=lambda device: _lot(rollout.id, device)):
        stratum = tuple(labels[device].get(key, "") for key in rollout.plan.strata)
        strata.setdefault(stratum, []).append(device)
    placed = [
        ((rank + 0.5) / len(devices), _lot(rollout.id, device), device)
        for devices in strata.values()
        for rank, device in enumerate(devices)
    ]
    return [device for _, _, device in sorted(placed)]


def _lot(rollout: int, device: str) -> bytes:
    return hashlib.sha256(f"{rollout}/{device}".encode()).digest()


def _all_targets(plan: Plan, members: list[Member]) -> tuple[str, ...]:
    left = [one for one in members if one.matches and not one.reached]
    if plan.in_flight_max:
        left = [one for one in left if one.online]
    room = _room(plan, members, len(left))
    return tuple(one.device for one in left[:room])


def _room(plan: Plan, members: list[Member], wanted: int) -> int:
    if plan.in_flight_max:
        wanted = min(wanted, plan.in_flight_max - sum(map(_under_way, members)))
    return max(wanted, 0)


def _under_way(member: Member) -> bool:
    reached = member.reached
    return reached is not None and member.online and reached.state in ("targeted", "in_progress")


def tally(members: Iterable[Member], wave: int, asking: int = 0) -> str:
    """Counts of a wave in words; devices that are offline are counted apart."""
    counts = dict.fromkeys(("committed", "under way", "failed", "offline"), 0)
    counts["under way"] = asking
    for member in members:
        reached = member.reached
        if reached is None or reached.wave != wave:
            continue
        if reached.state in ("committed", "failed"):
            counts[reached.state] += 1
        elif reached.state != "withdrawn":
            counts["under way" if member.online else "offline"] += 1
    total = sum(counts.values())
    told = [f"{count} {what}" for what, count in counts.items() if count and what != "committed"]
    return ", ".join([f"{counts['committed']} of {total} committed", *told])


def _completed_words(members: Iterable[Member]) -> str:
    members = list(members)
    done = sum(1 for one in members if one.reached and one.reached.state == "committed")
    away = [
        one.device
        for one in members
        if (one.reached and one.reached.state in ("targeted", "in_progress"))
        or (one.matches and not one.reached)
    ]
    failed = sum(1 for one in members if one.reached and one.reached.state == "failed")
    reason = f"Completed: {done} committed"
    if failed:
        reason += f", {failed} failed"
    if away:
        reason += f"; {len(away)} not yet ({_names(away)}), following by assignment"
    return reason + "."


def _nobody(members: list[Member]) -> str:
    matching = sum(1 for one in members if one.matches)
    if not matching:
        return "no device matches the selector"
    return f"none of the {matching} matching devices is online"


def _count(members: Iterable[Member]) -> int:
    return sum(1 for one in members if one.reached)


def _names(devices: Iterable[str]) -> str:
    devices = list(devices)
    more = len(devices) - NAMED_MAX
    return ", ".join(devices[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _wave(wave: int) -> str:
    return f"{wave + 1} of {len(WAVE_NAMES)} ({WAVE_NAMES[wave]})"


def read_plan(values: Mapping[str, object]) -> Plan:
    """A plan from plain values; raises ProtocolError naming the field at fault."""
    try:
        return msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"rollout plan: {error}") from None
