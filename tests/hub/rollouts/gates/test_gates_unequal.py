"""Arms that ran for different times, or have different pasts: canaries begin late, pasts are short.

Nothing was changed in these fleets. A canary that was heard for a tenth of the controls' time must
not look worse for it, neither as one of many outliers nor on average.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from muster_hub.rollouts.gates.look import Change, Sums, changes, of_both
from muster_hub.rollouts.gates.statistics import (
    Arm,
    Changes,
    compare_changes,
    compare_rates,
    harm_evidence,
)

RUNS, CHANCE = 120, 0.01
MOST = stats.binom.ppf(0.9999, RUNS, CHANCE)
"""What a rate of ``CHANCE`` passes once in ten thousand times."""
SIZES = [(20, 100), (8, 12), (40, 40)]
INFERENCES, PAST_INFERENCES = 500.0, 5000.0
WINDOWS, PAST_WINDOWS = 20, 50


def arm(rng, devices, rate, share=1.0, past_share=1.0):
    own = np.minimum(rate * np.exp(rng.normal(0, 0.5, devices)), 1)
    exposure = share * INFERENCES * rng.lognormal(0, 0.5, devices)
    past = past_share * PAST_INFERENCES * rng.lognormal(0, 0.5, devices)
    events, past_events = (rng.poisson(own * item).astype(float) for item in (exposure, past))
    return Arm(events, exposure, past_events, past, np.zeros(devices, np.intp))


@dataclass(frozen=True)
class Latency:
    """Log p95 of windows: how devices change for no reason, and how their windows vary."""

    devices_sd: float
    windows_sd: float

    def spans(self, rng, windows, past):
        means = rng.normal(0, self.devices_sd), 0.0
        for mean, count in zip(means, (windows, past), strict=True):
            logs = rng.normal(mean, self.windows_sd, count)
            yield Sums(
                windows=count, log_p95=logs.sum(), log_p95_squared=float(np.square(logs).sum())
            )

    def arm(self, rng, devices, windows=WINDOWS, past=PAST_WINDOWS) -> Changes:
        def change():
            new, old = self.spans(rng, windows, past)
            return Change(
                new.latency - old.latency,
                new.latency_noise + old.latency_noise,
                of_both(windows, past),
            )

        return changes(enumerate(change() for _ in range(devices)), np.zeros(devices, np.intp))


def stops(compare):
    """How often outliers and averages would have stopped a release that changes nothing."""
    by_outliers = by_average = 0
    for seed in range(RUNS):
        compared = compare(np.random.default_rng([7, seed]))
        by_outliers += compared.outlier_chance <= CHANCE
        by_average += harm_evidence(compared, 0.3) >= math.log(1 / CHANCE)
    return by_outliers, by_average


@pytest.mark.parametrize(("canaries", "controls"), SIZES)
@pytest.mark.parametrize(("share", "past_share"), [(0.1, 1), (0.5, 0.1), (1, 0.1), (10, 10)])
@pytest.mark.parametrize("rate", [0.0, 1e-5, 0.001, 0.02, 0.2])
def test_canaries_that_ran_less_or_more_are_no_worse_for_it(
    rate, share, past_share, canaries, controls
):
    by_outliers, by_average = stops(
        lambda rng: compare_rates(
            arm(rng, canaries, rate, share, past_share), arm(rng, controls, rate)
        )
    )
    assert by_outliers <= MOST
    assert by_average <= MOST


@pytest.mark.parametrize(("canaries", "controls"), SIZES)
@pytest.mark.parametrize(("windows", "past"), [(1, 50), (2, 50), (9, 50), (20, 2)])
@pytest.mark.parametrize("latency", [Latency(0.0, 0.2), Latency(0.02, 0.05)])
def test_canaries_with_fewer_windows_are_no_slower_for_it(
    latency, windows, past, canaries, controls
):
    by_outliers, by_average = stops(
        lambda rng: compare_changes(
            latency.arm(rng, canaries, windows, past), latency.arm(rng, controls)
        )
    )
    assert by_outliers <= MOST
    assert by_average <= MOST


def test_a_few_canaries_that_fail_much_more_often_are_outliers_though_they_ran_less():
    rng = np.random.default_rng(3)
    canary, control = arm(rng, 20, 0.02, share=0.3), arm(rng, 100, 0.02)
    canary.events[:4] = 30 + canary.events[:4] * 10
    compared = compare_rates(canary, control)
    assert compared.outliers >= 4
    assert compared.outlier_chance <= CHANCE


def test_a_few_canaries_that_are_much_slower_are_outliers():
    rng = np.random.default_rng(3)
    latency = Latency(0.02, 0.05)
    canary, control = latency.arm(rng, 20, windows=12), latency.arm(rng, 100)
    canary.values[:6] += 0.5
    compared = compare_changes(canary, control)
    assert compared.outliers >= 6
    assert compared.outlier_chance <= CHANCE
