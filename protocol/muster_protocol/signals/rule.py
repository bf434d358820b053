"""What the operator sets, and what a drift monitor finds."""

import math
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, UnsetType

from muster_protocol.wire.directive import Drift

MONTH_SECONDS = 30 * 86_400
DAY_SECONDS = 86_400.0
WINDOWS_MIN = 24
"""No time is so short that fewer windows than this count for it."""
CONFIRM_SECONDS_MAX, CONFIRM_WINDOWS_MIN = 2 * DAY_SECONDS, 8
"""A feature is calibrated after two days at the latest, but not on fewer windows than this."""
BUDGET_USUAL = 0.5
RUN_WINDOWS = 2.0
"""Windows that a running mean is over its limit for each false alert, of which it remembers more;
what windows bring beyond the last is over it for one."""
CHANCE_MAX = 1e-3
"""That any of a window's charts is over its limit, at the usual budget: however long windows are, a
few hundred training windows know of nothing that is much rarer, and seldom of that."""
StatisticName = Literal[
    "location", "dispersion", "share", "missing", "innovation",
    "level", "spread", "category", "relation", "stuck", "clipped", "",
]  # fmt: skip
Fault = Literal["", "stuck", "clipped", "spiking", "noisy", "dropped out", "unit changed"]
"""What a sensor at fault is called, where the evidence names it."""


@dataclass(frozen=True)
class Rule:
    """What the operator sets."""

    budget_per_month: float = BUDGET_USUAL
    """False alerts per device and month that are acceptable."""
    window_seconds: float = 300.0
    calibration_seconds: float = DAY_SECONDS
    """How long a device is watched before its own windows say what is normal."""
    calibration_seconds_max: float = 7 * DAY_SECONDS
    """The same for features that wander slowly, of which less shows too little."""
    settle_seconds: float = DAY_SECONDS
    """A change that has stood so long without a name is the new normal, and told so; 0: never."""
    effect: float = 0.1
    """Bias-corrected PSI below which a shift doesn't matter, however certain it is."""
    effect_calibrating: float = 0.7
    """The same while calibrating, about 0.85 standard deviations: as long as it isn't known how far
    the device wanders by itself, only what is gross counts."""
    warmup_windows: int = 5
    """Windows before any judgement: they show whether rows are independent of each other."""
    clear_windows: int = 6
    """Windows without a finding after which a feature has recovered."""
    clear_windows_in_time: int = 3
    """The same where the baseline knows training in time: its findings don't flicker."""

    @classmethod
    def of(cls, window_seconds: float, drift: Drift | UnsetType = UNSET) -> "Rule":
        """What a directive says."""
        if drift is UNSET:
            return cls(window_seconds=window_seconds)
        return cls(
            budget_per_month=drift.budget_per_month,
            window_seconds=window_seconds,
            calibration_seconds=drift.calibration_seconds,
            calibration_seconds_max=max(drift.calibration_seconds, cls.calibration_seconds_max),
            settle_seconds=drift.settle_seconds,
        )

    @property
    def calibration_windows(self) -> int:
        """Windows after which a feature is calibrated at the earliest."""
        return self._windows(self.calibration_seconds)

    @property
    def calibration_windows_max(self) -> int:
        """Windows after which a wandering feature is calibrated at the latest."""
        return max(self._windows(self.calibration_seconds_max), self.calibration_windows)

    @property
    def confirm_windows(self) -> int:
        """Windows in a row that must be as the baseline says before a feature is calibrated."""
        in_time = math.ceil(CONFIRM_SECONDS_MAX / self.window_seconds)
        return min(WINDOWS_MIN, max(CONFIRM_WINDOWS_MIN, in_time))

    @property
    def settle_windows(self) -> int:
        """0: never."""
        return self._windows(self.settle_seconds) if self.settle_seconds else 0

    def _windows(self, seconds: float) -> int:
        return max(WINDOWS_MIN, math.ceil(seconds / self.window_seconds))

    def alpha(self, tests: int) -> float:
        """Chance of a false finding that each test of a window may have."""
        windows = MONTH_SECONDS / self.window_seconds
        return min(self.budget_per_month / (windows * max(tests, 1)), 0.05)

    @property
    def chance(self) -> float:
        """That what a window brings may be over a chart's limit when nothing is wrong."""
        return self._chance(1.0)

    @property
    def chance_of_means(self) -> float:
        """The same of running means, which stay there."""
        return self._chance(RUN_WINDOWS)

    def _chance(self, windows_an_alert: float) -> float:
        windows = MONTH_SECONDS / self.window_seconds
        most = CHANCE_MAX * self.budget_per_month / BUDGET_USUAL
        return min(windows_an_alert * self.budget_per_month / windows, most, 0.05)


@dataclass(frozen=True)
class DriftFinding:
    """One feature, this window."""

    feature: str
    statistic: StatisticName
    """The score that is furthest beyond its limit; empty when the feature just recovered."""
    value: float
    """How far the score is from where it should be: in normal scores (σ) or shares."""
    limit: float
    effect: float
    """Bias-corrected PSI of the merged windows against the reference."""
    n: int
    windows: int
    """Windows merged for this finding."""
    direction: str
    status: str
    state: Literal["opened", "holding", "cleared"]
    fault: Fault = ""
    detail: str = ""
    """What names the fault, such as ``× 1.8 + 32``; or why a finding ended."""
    before: float | None = None
    """What is normal, in the feature's own unit; None where that says nothing."""
    now: float | None = None
