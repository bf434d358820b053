"""False alerts and missed drift of alert rules, by simulation: windows of counts, no rows kept.

All rules see the same windows (``signals_streams``). An alert opens when a feature is flagged and
closes after six windows without a flag; a window that opens any counts as one alert. A rule that
flags nearly every window opens few alerts and never closes them: read alerts beside the share of
windows flagged.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from bench.signals_replay import Flags, Replay, openings
from bench.signals_streams import Counts, Scenario, Windows, trained
from scipy import stats

from muster_protocol.signals import divergence
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.drift import DriftMonitor
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.messages import Stamp

RULE = Rule()
WINDOWS_PER_MONTH = 8640
WINDOWS_PER_DAY = 288
DAYS_UNCALIBRATED_MAX = 21
SHIFT = 0.5
TRIAL_WINDOWS = 3
DAYS_BETWEEN_TRIALS = 5
PEER_DAYS = 1
"""Of each device, after calibration, that the other rules are run on."""
_STAMP = Stamp(b"", 0.0, 0.0, "unknown")


def summary(fitted: Baseline, bins: Counts) -> Summary:
    size = len(fitted)
    nothing = np.zeros(size)
    counted = FeatureCounts(
        fitted, int(bins[0].sum()), bins, np.zeros(size, np.int64), nothing, nothing, nothing,
        nothing,
    )  # fmt: skip
    return Summary("m", "1", "00" * 32, _STAMP, _STAMP, features=counted)


def psi_rule(fitted: Baseline, bins: Counts) -> Flags:
    """Any feature's PSI over 0.2."""
    live = divergence.pooled_live(fitted)
    training = divergence.pooled(fitted, divergence.training_counts(fitted))
    now = np.array([divergence.pooled(fitted, window) for window in bins])
    return np.asarray(divergence.psi(now, training, live) > 0.2)


def ks_rule(fitted: Baseline, bins: Counts) -> Flags:
    """Kolmogorov–Smirnov per feature, Benjamini–Hochberg at 5 % in each window."""
    training = divergence.training_counts(fitted)
    distance = np.array([divergence.ks(window, training) for window in bins])
    n = 1 / (1 / bins.sum(axis=2) + 1 / training.sum(axis=1))
    p = stats.kstwobign.sf(distance * np.sqrt(n))
    ranked = np.sort(p, axis=1)
    places = np.arange(1, p.shape[1] + 1)
    passing = (ranked <= 0.05 * places / p.shape[1]) * places
    limit = passing.max(axis=1) * 0.05 / p.shape[1]
    return np.asarray((p <= limit[:, None]) & (limit > 0)[:, None])


PEERS = {"PSI > 0.2": psi_rule, "KS + BH 5 %": ks_rule}


@dataclass
class Tally:
    """What one rule did."""

    windows: int = 0
    alerts: int = 0
    flagged: int = 0

    def add(self, opens: Flags, flags: Flags) -> None:
        self.windows += len(flags)
        self.alerts += int(opens.sum())
        self.flagged += int(flags.any(axis=1).sum())

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.windows + other.windows, self.alerts + other.alerts, self.flagged + other.flagged
        )

    def rates(self) -> dict[str, float]:
        months = max(self.windows, 1) / WINDOWS_PER_MONTH
        return {
            "months": round(months, 2),
            "alerts": self.alerts,
            "per_month": self.alerts / months,
            "upper": float(stats.chi2.ppf(0.95, 2 * (self.alerts + 1)) / 2 / months),
            "windows_flagged": self.flagged / max(self.windows, 1),
        }


class Cell:
    """What devices did in one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.devices = 0
        self.muster = Tally()
        self.peers = {name: Tally() for name in PEERS}
        self.first_day_alerts = 0
        self.found = self.trials = 0

    def add(self, other: "Cell") -> None:
        """Count another cell's devices too."""
        self.devices += other.devices
        self.muster += other.muster
        for name in PEERS:
            self.peers[name] += other.peers[name]
        self.first_day_alerts += other.first_day_alerts
        self.found += other.found
        self.trials += other.trials

    def run_device(self, months: float, rng: np.random.Generator) -> None:
        """A device's first day, in which it calibrates, and ``months`` after that."""
        fitted = trained(self.scenario, rng)
        windows, monitor = Windows(self.scenario, fitted, rng), DriftMonitor(fitted, RULE)
        self.devices += 1
        left = round(months * 30)
        for day in range(DAYS_UNCALIBRATED_MAX + 1):
            self._live_a_day(monitor, windows, first=day == 0)
            left -= day > 0
            if set(monitor.status().values()) == {"calibrated"}:
                self._replay(fitted, Replay(monitor), windows, left)
                return

    def _live_a_day(self, monitor: DriftMonitor, windows: Windows, *, first: bool) -> None:
        """Window by window: days on which a feature is not calibrated."""
        for bins in windows.draw(WINDOWS_PER_DAY):
            findings = monitor.feed(summary(monitor.baseline, bins))
            opened = any(finding.state == "opened" for finding in findings)
            flagged = any(finding.state != "cleared" for finding in findings)
            if first:
                self.first_day_alerts += opened
            else:
                self.muster.add(np.array([opened]), np.array([[flagged]]))

    def _replay(self, fitted: Baseline, replay: Replay, windows: Windows, days: int) -> None:
        last = {name: np.full(len(fitted), -(10**9)) for name in PEERS}
        for day in range(days):
            bins = windows.draw(WINDOWS_PER_DAY)
            begin = day * WINDOWS_PER_DAY
            flags = replay.feed(bins)
            self.muster.add(openings(flags, replay.last, begin, RULE.clear_windows), flags)
            if day < PEER_DAYS:
                for name, rule in PEERS.items():
                    flags = rule(fitted, bins)
                    opens = openings(flags, last[name], begin, RULE.clear_windows)
                    self.peers[name].add(opens, flags)
            if day % DAYS_BETWEEN_TRIALS == 0:
                with windows.aside():
                    drifted = windows.draw(TRIAL_WINDOWS, SHIFT)
                self.found += bool(replay.feed(drifted, aside=True)[:, 0].any())
                self.trials += 1

    def row(self) -> dict[str, Any]:
        rules = {"Muster": self.muster, **self.peers}
        return {
            **asdict(self.scenario),
            "devices": self.devices,
            "false_alerts": {name: tally.rates() for name, tally in rules.items()},
            "first_day_alerts_per_device": self.first_day_alerts / max(self.devices, 1),
            "trials": self.trials,
            "detected_within_3_windows": self.found / max(self.trials, 1),
        }


def life(scenario: Scenario, number: int, *, months: float, seed: int) -> Cell:
    """What one device did: the cell of it alone."""
    cell = Cell(scenario)
    cell.run_device(months, np.random.default_rng([seed, number]))
    return cell
