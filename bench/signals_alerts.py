"""False alerts and missed drift of alert rules, by simulation: windows of counts, no rows kept.

A scenario is (dependence, rows per window, features). Features are standard normal in training:

- ``iid``: rows are independent;
- ``ar``: rows follow AR(1) with coefficient 0.9, so that n rows are worth about n/19;
- ``wander``: independent rows whose mean wanders (Ornstein–Uhlenbeck, standard deviation 0.25,
  six hours), as it did in training.

All rules see the same windows. An alert opens when a feature is flagged and closes after six
windows without a flag; a window that opens any counts as one alert. A rule that flags nearly every
window opens few alerts and never closes them: read alerts beside the share of windows flagged.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special, stats

from muster_protocol import baseline, divergence, features
from muster_protocol.baseline import NUMERIC_BINS, Baseline
from muster_protocol.binning import FeatureCounts
from muster_protocol.drift import DriftMonitor, Rule
from muster_protocol.messages import Stamp
from muster_protocol.summary import Summary

Counts = NDArray[np.int64]
WINDOWS_PER_MONTH = 8640
TRAINING_ROWS = 50_000
CALM_WINDOWS = 6
RHO = 0.9
WANDER_SD = 0.25
WANDER_WINDOWS = 72
SHIFT = 0.5
TRIAL_WINDOWS = 3
BATCH = 288
_STAMP = Stamp(b"", 0.0, 0.0, "unknown")


@dataclass(frozen=True)
class Scenario:
    dependence: str
    rows: int
    features: int

    def __str__(self) -> str:
        return f"{self.dependence}, n = {self.rows}, {self.features} features"


@dataclass
class Opening:
    """Hysteresis for one device, as the monitor has it."""

    features: int
    quiet: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.quiet = np.full(self.features, CALM_WINDOWS)

    def feed(self, flagged: NDArray[np.bool_]) -> bool:
        """Whether any alert opens now."""
        opens = bool((flagged & (self.quiet >= CALM_WINDOWS)).any())
        self.quiet = np.where(flagged, 0, self.quiet + 1)
        return opens


def trained(scenario: Scenario, rng: np.random.Generator) -> Baseline:
    count = scenario.features
    wandered = WANDER_SD if scenario.dependence == "wander" else 0.0
    x = rng.normal(0, sqrt(1 + wandered**2), size=(TRAINING_ROWS, count)).astype(np.float32)
    return baseline.fit({"x": x}, features.elements("x", count))


class Windows:
    """Draws windows' counts [features, bins] of one device, in order of time."""

    def __init__(self, scenario: Scenario, fitted: Baseline, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._rng = rng
        self._edges = fitted.edges.astype(np.float64)
        self._level = rng.normal(size=scenario.features)
        self._mean = rng.normal(0, WANDER_SD, scenario.features)

    def draw(self, windows: int, shift: float = 0.0) -> Iterator[Counts]:
        """``shift`` moves the first feature, in standard deviations."""
        moved = np.zeros(self._scenario.features)
        moved[0] = shift
        draw = self._rows if self._scenario.dependence == "ar" else self._shares
        while windows > 0:
            batch = min(windows, BATCH)
            yield from draw(batch, moved)
            windows -= batch

    def _shares(self, windows: int, moved: NDArray[np.float64]) -> Counts:
        """Independent rows: counts are multinomial."""
        means = np.zeros((windows, len(moved)))
        if self._scenario.dependence == "wander":
            keep = exp(-1 / WANDER_WINDOWS)
            kicks = self._rng.normal(0, WANDER_SD * sqrt(1 - keep**2), means.shape)
            for window, kick in enumerate(kicks):
                self._mean = keep * self._mean + kick
                means[window] = self._mean
        below = special.ndtr(self._edges[None] - (means + moved)[:, :, None])
        shares = np.diff(below, prepend=0.0, append=1.0, axis=2)
        return self._rng.multinomial(self._scenario.rows, shares)

    def _rows(self, windows: int, moved: NDArray[np.float64]) -> Counts:
        """Rows drawn one by one, feature by feature."""
        rows = self._scenario.rows
        counts = np.empty((windows, len(moved), NUMERIC_BINS), np.int64)
        kick = sqrt(1 - RHO**2)
        offsets = np.arange(windows).repeat(rows) * NUMERIC_BINS
        for place, edges in enumerate(self._edges):
            noise = self._rng.normal(0, kick, windows * rows)
            path, _ = signal.lfilter([1], [1, -RHO], noise, zi=[RHO * self._level[place]])
            self._level[place] = path[-1]
            bins = np.searchsorted(edges, path + moved[place], side="right")
            tally = np.bincount(bins + offsets, minlength=windows * NUMERIC_BINS)
            counts[:, place] = tally.reshape(windows, NUMERIC_BINS)
        return counts


def summary(fitted: Baseline, bins: Counts) -> Summary:
    size = len(fitted)
    nothing = np.zeros(size)
    counted = FeatureCounts(
        fitted, int(bins[0].sum()), bins, np.zeros(size, np.int64), nothing, nothing, nothing,
        nothing,
    )  # fmt: skip
    return Summary("m", "1", "00" * 32, _STAMP, _STAMP, features=counted)


class PsiRule:
    """Any feature's PSI over 0.2."""

    name = "PSI > 0.2"

    def __init__(self, fitted: Baseline) -> None:
        self._fitted = fitted
        self._live = divergence.pooled_live(fitted)
        self._training = divergence.pooled(fitted, divergence.training_counts(fitted))
        self._opening = Opening(len(fitted))
        self.flagged = False

    def feed(self, bins: Counts) -> bool:
        now = divergence.pooled(self._fitted, bins)
        over = divergence.psi(now, self._training, self._live) > 0.2
        self.flagged = bool(over.any())
        return self._opening.feed(over)


class KsRule:
    """Kolmogorov–Smirnov per feature, Benjamini–Hochberg at 5 %."""

    name = "KS + BH 5 %"

    def __init__(self, fitted: Baseline) -> None:
        self._training = divergence.training_counts(fitted)
        self._opening = Opening(len(fitted))
        self.flagged = False

    def feed(self, bins: Counts) -> bool:
        distance = divergence.ks(bins, self._training)
        n = 1 / (1 / bins.sum(axis=1) + 1 / self._training.sum(axis=1))
        p = stats.kstwobign.sf(distance * np.sqrt(n))
        order = np.argsort(p)
        passed = p[order] <= 0.05 * np.arange(1, len(p) + 1) / len(p)
        flagged = np.zeros(len(p), np.bool_)
        if passed.any():
            flagged[order[: int(np.flatnonzero(passed)[-1]) + 1]] = True
        self.flagged = bool(passed.any())
        return self._opening.feed(flagged)


class MusterRule:
    """``muster_protocol.drift`` at its defaults."""

    name = "Muster"

    def __init__(self, fitted: Baseline) -> None:
        self._fitted = fitted
        self.monitor = DriftMonitor(fitted, Rule())
        self.flagged = False

    def feed(self, bins: Counts) -> bool:
        findings = self.monitor.feed(summary(self._fitted, bins))
        self.flagged = any(finding.state != "cleared" for finding in findings)
        return any(finding.state == "opened" for finding in findings)


RULES = (MusterRule, PsiRule, KsRule)


def false_alerts(scenario: Scenario, months: float, seed: int) -> dict[str, dict[str, float]]:
    """Alerts per device-month without drift, with the 95 % Poisson upper bound, by rule.

    A device's first day, in which Muster calibrates, comes before its month and is told apart.
    """
    alerts, first_day, flagged = (dict.fromkeys((rule.name for rule in RULES), 0) for _ in "abc")
    learning = Rule().calibration_windows
    devices = max(1, round(months))
    for device in range(devices):
        rng = np.random.default_rng([seed, device])
        fitted = trained(scenario, rng)
        rules = [rule(fitted) for rule in RULES]
        span = learning + int(months / devices * WINDOWS_PER_MONTH)
        for number, bins in enumerate(Windows(scenario, fitted, rng).draw(span)):
            for rule in rules:
                opened = rule.feed(bins)
                (first_day if number < learning else alerts)[rule.name] += opened
                flagged[rule.name] += rule.flagged
    return {
        name: {
            "alerts": count,
            "per_month": count / months,
            "upper": float(stats.chi2.ppf(0.95, 2 * (count + 1)) / 2 / months),
            "windows_flagged": flagged[name] / (devices * learning + months * WINDOWS_PER_MONTH),
            "per_first_day": first_day[name] / devices,
        }
        for name, count in alerts.items()
    }


def detection(scenario: Scenario, trials: int, seed: int) -> float:
    """Share of trials in which a shift of 0.5 σ on one feature is found within three windows."""
    found = 0
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial, 1])
        fitted = trained(scenario, rng)
        rule = MusterRule(fitted)
        windows = Windows(scenario, fitted, rng)
        for bins in windows.draw(Rule().calibration_windows + 24):
            rule.feed(bins)
        name = fitted.features[0].name
        for bins in windows.draw(TRIAL_WINDOWS, SHIFT):
            rule.feed(bins)
            if name in rule.monitor.drifting():
                found += 1
                break
    return found / trials


def measure(job: tuple[Scenario, float, int, int]) -> dict[str, Any]:
    """One scenario's row of the results; ``job`` is (scenario, months, trials, seed)."""
    scenario, months, trials, seed = job
    begun = time.perf_counter()
    row: dict[str, Any] = asdict(scenario)
    row["false_alerts"] = false_alerts(scenario, months, seed)
    row["detected_within_3_windows"] = detection(scenario, trials, seed)
    row["seconds"] = round(time.perf_counter() - begun, 1)
    return row
