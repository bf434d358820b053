"""False alerts of the rule in time, by simulation: rows of features that depend on each other in
time as in ``signals_streams``, through the device's own code.

A baseline is fitted on the first ``TRAINING_WINDOWS`` windows of each device. Then it lives
``days`` of five-minute windows in which nothing drifts; each day a twin of the monitor sees half a
standard deviation on its first feature for an hour.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from bench.real_muster import window
from bench.signals_streams import RHO, WANDER_SD, WANDER_WINDOWS
from numpy.typing import NDArray
from scipy import signal, stats

from muster_protocol.signals import learning, monitors
from muster_protocol.signals.features import elements
from muster_protocol.signals.learning import InTime

Rows = NDArray[np.float32]
TRAINING_WINDOWS = 600
WINDOWS_PER_DAY = 288
WINDOWS_PER_MONTH = 8640
SHIFT = 0.5
TRIAL_WINDOWS = 12
FEATURES = 8


@dataclass(frozen=True)
class Case:
    dependence: str
    rows: int
    devices: int
    days: int
    seed: int


def cases(devices: int, days: int, seed: int) -> list[Case]:
    return [
        Case(dependence, rows, devices, days, seed)
        for rows in (50, 300)
        for dependence in ("iid", "wander", "weak", "ar")
    ]


class Stream:
    """Draws a device's windows in order of time."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self._case, self._rng = case, rng
        self._level = rng.normal(size=FEATURES)
        self._mean = rng.normal(0, WANDER_SD, FEATURES)

    def draw(self, windows: int) -> Rows:
        """[windows, rows, features]"""
        rows = self._case.rows
        z = self._rng.normal(size=(windows * rows, FEATURES))
        if self._case.dependence in RHO:
            rho = RHO[self._case.dependence]
            z, _ = signal.lfilter(
                [np.sqrt(1 - rho**2)], [1, -rho], z, axis=0, zi=(rho * self._level)[None]
            )
            self._level = z[-1]
        x = z.reshape(windows, rows, FEATURES)
        if self._case.dependence == "wander":
            keep = np.exp(-1 / WANDER_WINDOWS)
            kicks = self._rng.normal(0, WANDER_SD * np.sqrt(1 - keep**2), (windows, FEATURES))
            for place, kick in enumerate(kicks):
                self._mean = keep * self._mean + kick
                x[place] += self._mean
        return x.astype(np.float32)


def measured(case: Case) -> dict[str, Any]:
    """The row of one case."""
    alerts = lived = found3 = found12 = trials = 0
    for device in range(case.devices):
        rng = np.random.default_rng([case.seed, device])
        stream = Stream(case, rng)
        x = stream.draw(TRAINING_WINDOWS).reshape(-1, FEATURES)
        trained = learning.fit({"x": x}, elements("x", FEATURES), InTime(case.rows, 300.0))
        monitor = monitors.begin(trained)
        for _ in range(case.days):
            day = stream.draw(WINDOWS_PER_DAY)
            for place, rows in enumerate(day):
                if place == WINDOWS_PER_DAY - TRIAL_WINDOWS and not monitor.drifting():
                    delay = _delay(monitors.resume(trained, None, monitor.encode()), day[place:])
                    trials += 1
                    found3 += delay <= 3
                    found12 += delay <= TRIAL_WINDOWS
                found = monitor.feed(window(trained, rows))
                alerts += any(finding.state == "opened" for finding in found)
                lived += 1
    months = lived / WINDOWS_PER_MONTH
    return {
        "dependence": case.dependence,
        "rows": case.rows,
        "features": FEATURES,
        "device_months": months,
        "alerts": alerts,
        "per_month": alerts / months,
        "upper": float(stats.chi2.ppf(0.95, 2 * (alerts + 1)) / 2 / months),
        "trials": trials,
        "found_in_3": found3,
        "found_in_12": found12,
    }


def _delay(monitor: monitors.Monitor, windows: Rows) -> int:
    """Windows until the shift is found; more than ``TRIAL_WINDOWS`` when it isn't."""
    for number, rows in enumerate(windows):
        x = rows.copy()
        x[:, 0] += np.float32(SHIFT)
        if any(finding.state == "opened" for finding in monitor.feed(window(monitor.baseline, x))):
            return number + 1
    return TRIAL_WINDOWS + 1
