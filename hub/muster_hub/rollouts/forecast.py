"""What a rollout would do if everything went well: whom each wave asks, and what binds. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from muster_hub.rollouts import maintenance
from muster_hub.rollouts.budgets import Budget
from muster_hub.rollouts.members import Member, Reached, StagedRollout
from muster_hub.rollouts.plan import CANARY, Plan, stages
from muster_hub.rollouts.targets import first_size, left, shadowed


@dataclass(frozen=True, kw_only=True)
class WaveForecast:
    """Whom a wave would ask."""

    name: str
    devices: tuple[str, ...]
    offline: int
    """Of them; they neither block nor pass a wave and follow when they return."""
    approve: bool
    soak_seconds: float


@dataclass(frozen=True, kw_only=True)
class GroupForecast:
    """A budget's group: ``rounds`` swaps after each other are needed for all of ``size``."""

    group: str
    size: int
    at_once: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a plan would do, without doing it."""

    waves: tuple[WaveForecast, ...]
    budgets: tuple[GroupForecast, ...]
    binding: str
    """Which limit makes it slowest, in words."""
    waiting: Mapping[str, int]
    """Devices that couldn't swap now, by reason."""
    least_seconds: float
    """Soaking and the shadow alone; downloads, probation, approvals and gates come on top."""
    shadow: tuple[str, ...] = ()
    """Devices that would watch the release before the first wave."""
    warnings: tuple[str, ...] = ()
    """What the plan doesn't say and somebody should know, with how many devices it concerns."""


def forecast(rollout: StagedRollout, members: Sequence[Member], now: float) -> Forecast:
    """``members`` are the matching devices, none of them reached yet."""
    waves = []
    standing = list(members)
    for number, stage in enumerate(stages(rollout.plan)):
        asked = _asked(replace(rollout, wave=number), standing)
        names = {member.device for member in asked}
        waves.append(
            WaveForecast(
                name=stage.name,
                devices=tuple(sorted(names)),
                offline=sum(1 for member in asked if not member.online),
                approve=stage.approve,
                soak_seconds=stage.soak_seconds if asked else 0.0,
            )
        )
        reached = Reached(wave=number, state="committed", online_since=None, changed_at=now)
        standing = [
            replace(member, reached=reached) if member.device in names else member
            for member in standing
        ]
    groups = tuple(_groups(rollout.plan.budgets, members))
    return Forecast(
        waves=tuple(waves),
        budgets=groups,
        binding=_binding(rollout.plan, groups, len(members)),
        waiting=_waiting(rollout.plan, members, now),
        least_seconds=sum(wave.soak_seconds for wave in waves[:-1]) + _shadow_seconds(rollout),
        shadow=shadowed(rollout, list(members)) if rollout.plan.shadow is not None else (),
        warnings=_warnings(rollout.plan, members, now),
    )


def _shadow_seconds(rollout: StagedRollout) -> float:
    return rollout.plan.shadow.min_seconds if rollout.plan.shadow is not None else 0.0


def _asked(rollout: StagedRollout, members: list[Member]) -> list[Member]:
    wanted = left(rollout, members)
    if rollout.wave == CANARY:
        # Whoever is online goes first; the canary may need more than that.
        wanted = sorted(wanted, key=lambda member: not member.online)
        wanted = wanted[: 0 if rollout.plan.begins_with_all else first_size(rollout, members)]
    return wanted


def _groups(budgets: Iterable[Budget], members: Iterable[Member]) -> Iterable[GroupForecast]:
    everyone = list(members)
    for budget in budgets:
        sizes: dict[tuple[str, ...], int] = {}
        for member in everyone:
            group = budget.group(member.labels)
            sizes[group] = sizes.get(group, 0) + 1
        for group, size in sorted(sizes.items()):
            most = budget.most_down(size)
            rounds = math.ceil(size / most) if most else 0
            yield GroupForecast(group=budget.name(group), size=size, at_once=most, rounds=rounds)


def _binding(plan: Plan, groups: Sequence[GroupForecast], devices: int) -> str:
    if groups:
        worst = max(groups, key=lambda group: (group.at_once == 0, group.rounds))
        if worst.rounds > 1:
            return (
                f"the budget of {worst.group}: {worst.at_once} of {worst.size} at once, "
                f"{worst.rounds} rounds"
            )
    if plan.in_flight_max and plan.in_flight_max < devices:
        return f"in_flight_max: {plan.in_flight_max} of {devices} devices under way at once"
    return "no budget; only the waves themselves"


def _waiting(plan: Plan, members: Iterable[Member], now: float) -> dict[str, int]:
    found: dict[str, int] = {}
    for member in members:
        reason = maintenance.refusal(plan.windows, member.labels, now)
        if reason is not None:
            found[reason] = found.get(reason, 0) + 1
    return found


def _warnings(plan: Plan, members: Iterable[Member], now: float) -> tuple[str, ...]:
    zones = Counter(member.labels.get(maintenance.LABEL) for member in members)
    found: Counter[str] = Counter()
    for zone, count in zones.items():
        labels = {} if zone is None else {maintenance.LABEL: zone}
        for words in maintenance.skipped(plan.windows, labels, now):
            found[words] += count
    return tuple(f"{words} ({count} devices)" for words, count in sorted(found.items()))
