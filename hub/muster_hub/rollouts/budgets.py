"""Disruption budgets: how many devices of a group may be down for a swap at once. Pure.

*Down* is a device that was given a permit to swap and has not shown since that it is through,
however long it is silent. ``max_unavailable`` bounds those. ``min_available`` asks that enough
others of the group are online and not down; there, devices that are away for any reason count.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from muster_protocol.wire.errors import ProtocolError

Amount = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=r"\A[0-9]{1,3}%\Z")]
"""A number of devices, or a share of the group such as ``"10%"``."""
NAMED_MAX = 3


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """How many devices of each group may be down at once."""

    group_by: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    """Labels whose values make a group; none is one group of all."""
    max_unavailable: Amount | None = None
    min_available: Amount | None = None

    def check(self) -> None:
        """Raise ProtocolError for a budget that says nothing, or too much."""
        if self.max_unavailable is None and self.min_available is None:
            raise ProtocolError("a budget needs max_unavailable, min_available or both")
        for amount in (self.max_unavailable, self.min_available):
            if isinstance(amount, str) and int(amount[:-1]) > 100:
                raise ProtocolError(f"a budget of {amount}: use at most 100%")

    def group(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The group of a device with these labels."""
        return tuple(labels.get(key, "") for key in self.group_by)

    def most_down(self, size: int) -> int:
        """How many of a group of ``size`` this allows down at once, were all others online.

        A share of a small group still lets one device go, unless it is 0 %.
        """
        most = size
        if self.max_unavailable is not None:
            most = _least(self.max_unavailable, size)
        if self.min_available is not None:
            most = min(most, size - self.at_least(size))
        return max(most, 0)

    def at_least(self, size: int) -> int:
        """How many of a group of ``size`` must stay available."""
        if isinstance(self.min_available, str):
            return math.ceil(size * int(self.min_available[:-1]) / 100)
        return self.min_available or 0

    def name(self, group: tuple[str, ...]) -> str:
        """A group in words, for reasons."""
        if not self.group_by:
            return "all devices"
        return ", ".join(
            f"{key}={value or '(none)'}" for key, value in zip(self.group_by, group, strict=True)
        )


@dataclass(frozen=True)
class BudgetUnit:
    """A device as budgets see it."""

    device: str
    labels: Mapping[str, str]
    online: bool


def unsatisfiable(budgets: Iterable[Budget], units: Collection[BudgetUnit]) -> str | None:
    """Which group could never swap, in words; None when every group can."""
    for budget in budgets:
        stuck = []
        for group, members in sorted(_groups(budget, units).items()):
            if budget.most_down(len(members)) == 0:
                stuck.append(f"{budget.name(group)} ({_devices(len(members))})")
        if stuck:
            more = f" and {len(stuck) - NAMED_MAX} more groups" if len(stuck) > NAMED_MAX else ""
            return (
                f"the budget {_budget_in_words(budget)} can never be met in "
                f"{'; '.join(stuck[:NAMED_MAX])}{more}: no device there could ever swap"
            )
    return None


def refusal(
    budgets: Iterable[Budget], units: Collection[BudgetUnit], down: Collection[str], device: str
) -> str | None:
    """Why ``device`` may not go down now, in words; None when every budget has room.

    ``units`` are all devices that the rollout concerns, ``device`` among them. A device that is
    down already takes its own place again.
    """
    asking = next(unit for unit in units if unit.device == device)
    for budget in budgets:
        group = budget.group(asking.labels)
        members = [unit for unit in units if budget.group(unit.labels) == group]
        busy = sorted(
            member.device for member in members if member.device in down and member.device != device
        )
        size = len(members)
        if budget.max_unavailable is not None:
            most = _least(budget.max_unavailable, size)
            if len(busy) >= most:
                return (
                    f"the budget of {budget.name(group)} lets {most} of {size} swap at once; "
                    f"swapping or silent since: {_names(busy)}"
                )
        if budget.min_available is not None:
            left = sum(1 for member in members if member.online and member.device not in busy) - 1
            if left < budget.at_least(size):
                away = sum(1 for member in members if not member.online)
                return (
                    f"the budget of {budget.name(group)} keeps {budget.at_least(size)} of {size}"
                    f" available; {max(left, 0)} would be left ({away} offline, "
                    f"{len(busy)} swapping)"
                )
    return None


def _least(amount: int | str, size: int) -> int:
    if isinstance(amount, str):
        percent = int(amount[:-1])
        return max(size * percent // 100, 1) if percent else 0
    return amount


def _groups(budget: Budget, units: Iterable[BudgetUnit]) -> dict[tuple[str, ...], list[BudgetUnit]]:
    found: dict[tuple[str, ...], list[BudgetUnit]] = {}
    for unit in units:
        found.setdefault(budget.group(unit.labels), []).append(unit)
    return found


def _budget_in_words(budget: Budget) -> str:
    parts = []
    if budget.max_unavailable is not None:
        parts.append(f"max_unavailable {budget.max_unavailable}")
    if budget.min_available is not None:
        parts.append(f"min_available {budget.min_available}")
    per = f" per {', '.join(budget.group_by)}" if budget.group_by else ""
    return " and ".join(parts) + per


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _names(devices: list[str]) -> str:
    more = len(devices) - NAMED_MAX
    shown = ", ".join(devices[:NAMED_MAX]) or "nobody"
    return shown + (f" and {more} more" if more > 0 else "")
