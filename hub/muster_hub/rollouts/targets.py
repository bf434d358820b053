"""Whom a wave asks next: random within strata, within the cap of devices under way. Pure."""

import hashlib
import math
from collections.abc import Iterable

from muster_hub.rollouts.experiments import Arms
from muster_hub.rollouts.members import Member, StagedRollout, under_way
from muster_hub.rollouts.plan import CANARY, Plan, stages
from muster_hub.rollouts.shadows import wanted


def targets(rollout: StagedRollout, members: list[Member]) -> tuple[str, ...]:
    """Devices to ask now in the rollout's present wave, by name."""
    wanted = left(rollout, members)
    if rollout.wave == CANARY or rollout.plan.in_flight_max:
        wanted = [member for member in wanted if member.online]
    room = len(wanted)
    if rollout.wave == CANARY:
        reached = sum(1 for member in members if member.reached)
        room = first_size(rollout, members) - reached
    if rollout.plan.in_flight_max:
        room = min(room, rollout.plan.in_flight_max - sum(map(under_way, members)))
    return tuple(sorted(member.device for member in wanted[: max(room, 0)]))


def shadowed(rollout: StagedRollout, members: list[Member]) -> tuple[str, ...]:
    """Devices of the rollout's shadow: those it has, and by lot those there is room for."""
    plan = rollout.plan.shadow
    assert plan is not None
    have = rollout.shadow.devices if rollout.shadow is not None else ()
    matching = [member for member in members if member.matches]
    room = wanted(plan, len(matching)) - len(have)
    free = [member for member in matching if member.online and member.device not in have]
    return (*have, *draw(rollout, free)[: max(room, 0)])


def left(rollout: StagedRollout, members: list[Member]) -> list[Member]:
    """Devices the present wave has yet to ask, in the order of the rollout's lot."""
    if rollout.wave == CANARY and rollout.plan.experiment is not None:
        free = {
            member.device: member for member in members if member.matches and not member.reached
        }
        return [free[device] for device in arms_of(rollout, members).b if device in free]
    stage = stages(rollout.plan)[rollout.wave]
    unreached = {
        member.device: member for member in members if member.matches and not member.reached
    }
    order = [unreached[device] for device in draw(rollout, unreached.values())]
    if stage.holds_back and rollout.plan.holdback:
        order = order[: max(len(order) - rollout.plan.holdback, 0)]
    if rollout.wave == CANARY:
        return order
    concerned = [
        member for member in members if member.matches and stage.selector.matches(member.labels)
    ]
    reached = sum(1 for member in concerned if member.reached)
    wanted = math.ceil(stage.share * len(concerned) - 1e-9) - reached
    return [member for member in order if stage.selector.matches(member.labels)][: max(wanted, 0)]


def arms_of(rollout: StagedRollout, members: Iterable[Member]) -> Arms:
    """The experiment's arms: those drawn when it started, or those that would be drawn now."""
    return rollout.arms if rollout.arms is not None else draw_arms(rollout, members)


def draw_arms(rollout: StagedRollout, members: Iterable[Member]) -> Arms:
    """Both arms by lot, in pairs within each matched group; a group of one takes no part."""
    plan = rollout.plan.experiment
    assert plan is not None
    groups: dict[tuple[str, ...], list[str]] = {}
    for member in members:
        if member.matches:
            group = tuple(member.labels.get(key, "") for key in rollout.plan.groups)
            groups.setdefault(group, []).append(member.device)
    a: list[str] = []
    b: list[str] = []
    for devices in groups.values():
        devices.sort(key=lambda device: _lot(rollout.id, device))
        pairs = min(max(round(plan.share * len(devices)), 1), len(devices) // 2)
        b += devices[:pairs]
        a += devices[pairs : 2 * pairs]
    return Arms(tuple(sorted(a)), tuple(sorted(b)))


def first_size(rollout: StagedRollout, members: list[Member]) -> int:
    """How many devices the first wave may reach."""
    if rollout.plan.experiment is not None:
        return len(arms_of(rollout, members).b)
    return canary_size(rollout.plan, sum(1 for member in members if member.matches))


def canary_size(plan: Plan, matching: int) -> int:
    """How many devices the canary may reach, of those that match."""
    if plan.canary >= 1:
        return min(int(plan.canary), matching)
    return min(max(round(plan.canary * matching), 1), matching)


def draw(rollout: StagedRollout, candidates: Iterable[Member]) -> list[str]:
    """Candidates in random order, interleaved so that any prefix is proportional by stratum."""
    strata: dict[tuple[str, ...], list[str]] = {}
    labels = {candidate.device: candidate.labels for candidate in candidates}
    for device in sorted(labels, key=lambda device: _lot(rollout.id, device)):
        stratum = tuple(labels[device].get(key, "") for key in rollout.plan.groups)
        strata.setdefault(stratum, []).append(device)
    placed = [
        ((rank + 0.5) / len(devices), _lot(rollout.id, device), device)
        for devices in strata.values()
        for rank, device in enumerate(devices)
    ]
    return [device for _, _, device in sorted(placed)]


def _lot(rollout: int, device: str) -> bytes:
    return hashlib.sha256(f"{rollout}/{device}".encode()).digest()
