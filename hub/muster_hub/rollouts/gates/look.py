"""What one look of a gate has before it: both sides, device by device. Pure.

A metric reads what it needs from here as one row a device, by sums of the counts that devices sent
home, or by what else was received of each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from muster_hub.rollouts.gates.statistics import Arm, Changes, Index


@dataclass(frozen=True)
class Rates:
    """Events out of trials: errors of inferences, missing of expected windows, wrong labels."""

    canary: Arm
    control: Arm


@dataclass(frozen=True)
class Shifts:
    """A change per device against its own past, such as of its mean log p95."""

    canary: Changes
    control: Changes


@dataclass(frozen=True)
class Pairs:
    """A difference per device between two models on the same inputs, as a shadow gives."""

    canary: Changes


Reading = Rates | Shifts | Pairs
"""What was found of one metric at one look."""


@dataclass(frozen=True)
class Sums:
    """Of one device over one span of time."""

    counts: Mapping[str, float] = field(default_factory=dict)
    """By their names in ``summary.Tally``."""
    seconds: float = 0.0
    """Covered by the windows that came."""
    windows: int = 0
    """Whose latency is known."""
    log_p95: float = 0.0
    """Summed over those."""
    log_p95_squared: float = 0.0
    until: float = 0.0
    """When the last of them ended."""

    def count(self, *names: str) -> float:
        """The named counts together."""
        return sum(self.counts.get(name, 0.0) for name in names)

    @property
    def latency(self) -> float:
        """Mean of the windows' log p95; NaN without windows."""
        return self.log_p95 / self.windows if self.windows else float("nan")

    @property
    def latency_noise(self) -> float:
        """Squared standard error of ``latency``."""
        if self.windows < 2:
            return 0.0
        spread = self.log_p95_squared / self.windows - self.latency**2
        return max(spread, 0.0) / (self.windows - 1)


NO_SUMS = Sums()


@dataclass(frozen=True)
class Moments:
    """Of one device's values in one span of time."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the posted values."""
        return self.total / self.count

    @property
    def noise(self) -> float:
        """Squared standard error of the mean; 0 when there is one value."""
        if self.count < 2:
            return 0.0
        return max(self.squares / self.count - self.mean**2, 0.0) / (self.count - 1)


class Source(Protocol):
    """What was received beside sums of windows; asked only for metrics that the plan names."""

    def drifting(self) -> Mapping[str, tuple[int, int]]:
        """Features that drift and features watched, by device, of those that sent any since."""
        ...

    def disagreement(self) -> Sequence[tuple[float, int]]:
        """(Share answered otherwise, answers compared) of each device that ran the challenger."""
        ...

    def posted(self, metric: str) -> Mapping[str, tuple[Moments, Moments]]:
        """Values that the operator's systems posted for each device: since, and before."""
        ...


class Compared(Protocol):
    """A device of either side."""

    @property
    def device(self) -> str:
        """Its id."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """By which it falls into a stratum."""
        ...


@dataclass(frozen=True)
class Change:
    """How much worse one device is than before."""

    value: float
    noise: float
    """Squared standard error of ``value``."""
    count: float
    """Windows or measurements behind it; of two spans as many as would tell as much in both."""


def of_both(now: float, before: float) -> float:
    """The ``count`` of a difference of two means, of so many measurements each."""
    return 2 / (1 / now + 1 / before)


def changes(found: Iterable[tuple[int, Change]], stratum: Index) -> Changes:
    """Of rows of ``stratum`` and their changes, one side of a comparison."""
    rows, scored = [], []
    for row, change in found:
        rows.append(row)
        scored.append(change)
    return Changes(
        np.array([change.value for change in scored], np.float64),
        stratum[np.array(rows, np.intp)],
        float(np.mean([change.noise for change in scored])) if scored else 0.0,
        np.array([change.count for change in scored], np.float64),
    )


Row = tuple[float, float, float, float]
"""Of one device: events, trials, events in its past, trials in its past."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Canaries and controls, what each sent since it began, and what it sent before."""

    canaries: Sequence[Compared]
    controls: Sequence[Compared]
    strata: Sequence[str]
    """Labels by whose values devices are grouped."""
    now: Mapping[str, Sums]
    past: Mapping[str, Sums]
    expected: Mapping[str, float]
    """Windows that should have come from each device by now."""
    past_expected: float
    window_seconds: float
    source: Source

    def share(self, events: str, *trials: str) -> Rates | None:
        """One count out of others, each device against its own past."""

        def row(device: str) -> Row:
            new, old = self.now.get(device, NO_SUMS), self.past.get(device, NO_SUMS)
            return new.count(events), new.count(*trials), old.count(events), old.count(*trials)

        return self.rates(row)

    def rates(self, row: Callable[[str], Row]) -> Rates | None:
        """A row a device on each side; None before both sides have any trials."""
        canary, control = (_arm(side, stratum, row) for side, stratum in self.sides())
        return Rates(canary, control) if canary.exposure.sum() and control.exposure.sum() else None

    def shifts(self, change: Callable[[str], Change | None]) -> Shifts | None:
        """Each device's change; devices without are left out.

        None before both sides have two devices with a change.
        """
        canary, control = (_changes(side, stratum, change) for side, stratum in self.sides())
        enough = min(len(canary.values), len(control.values)) >= 2
        return Shifts(canary, control) if enough else None

    def sides(self) -> list[tuple[Sequence[Compared], Index]]:
        """Each side with its devices' strata as numbers."""
        both = (self.canaries, self.controls)
        groups = sorted({self._group(item) for side in both for item in side})
        codes = {group: code for code, group in enumerate(groups)}
        return [
            (side, np.array([codes[self._group(item)] for item in side], np.intp)) for side in both
        ]

    def _group(self, item: Compared) -> tuple[str, ...]:
        return tuple(item.labels.get(key, "") for key in self.strata)


def _arm(side: Sequence[Compared], stratum: Index, row: Callable[[str], Row]) -> Arm:
    rows = np.array([row(item.device) for item in side], np.float64).reshape(-1, 4)
    return Arm(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3], stratum)


def _changes(
    side: Sequence[Compared],
    stratum: Index,
    change: Callable[[str], Change | None],
) -> Changes:
    found = [(row, change(item.device)) for row, item in enumerate(side)]
    return changes(((row, item) for row, item in found if item is not None), stratum)
