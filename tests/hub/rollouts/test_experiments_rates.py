"""How often experiments are wrong, on simulated fleets whose errors cluster, wander and shake.

40 devices an arm, looked at 24 times: seeded, so that a change of the statistics shows.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from bench.gates import received
from bench.gates_fleet import FLEETS, simulate
from scipy import stats

from muster_hub.rollouts.experiments import INTERVAL_CHANCE, SETTLED, judge_experiment
from muster_hub.rollouts.gates.judge import ADVANCE_CHANCE, Evidence, Gate
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.statistics import Arm

LOOKS, DEVICES, PAST = 24, 40, 48
SHAPE = replace(FLEETS["typical"], controls=DEVICES, past_windows=PAST, looks=LOOKS)
GATE = Gate(metrics=(ERRORS,), looks=LOOKS)
BETTER_CHANCE = ERRORS.false_stop / 2
"""Only the average tells of a better release, never how many devices are outliers."""


def outcomes(seed, factor):
    """What each look says if all others are ignored, and whether each interval held the truth."""
    rng = np.random.default_rng([11, seed])
    history = simulate(rng, SHAPE, DEVICES, np.full(DEVICES, factor))
    counts = (history.events, history.exposure)
    now = [received(history, count, PAST, PAST + LOOKS, PAST) for count in counts]
    past = [received(history, count, 0, PAST, PAST) for count in counts]

    def arm(rows, look):
        return Arm(*(item[rows, look] for item in (*now, *past)), history.site[rows])

    said, held = set(), True
    for look in range(LOOKS):
        data = {"errors": Rates(arm(history.canary, look), arm(~history.canary, look))}
        result = judge_experiment(
            GATE,
            Evidence(
                look=look + 1, data=data, canaries=DEVICES, silent=0, device_hours=1.0, soaked=True
            ),
        )
        said.add(result.outcome)
        held = held and all(effect.low <= factor <= effect.high for effect in result.effects)
    return said & SETTLED, held


def tried(factor, runs):
    """How many runs ever gave each verdict, and how many had an interval without the truth."""
    counted, missed = Counter(), 0
    for seed in range(runs):
        said, held = outcomes(seed, factor)
        counted.update(said)
        missed += not held
    return counted, missed


def most(runs, chance):
    """What a rate of ``chance`` passes once in a thousand times."""
    return stats.binom.ppf(0.999, runs, chance)


def test_a_release_that_changes_nothing_is_hardly_ever_called_worse_or_better():
    runs = 400
    counted, missed = tried(1.0, runs)
    assert counted["worse"] <= most(runs, ERRORS.false_stop)
    assert counted["better"] <= most(runs, BETTER_CHANCE)
    assert missed <= most(runs, INTERVAL_CHANCE)
    assert counted["no difference"] > runs / 3, "nor is it all caution"


@pytest.mark.parametrize("factor", [ERRORS.margin, -ERRORS.margin])
def test_a_difference_as_large_as_the_margin_is_hardly_ever_called_none(factor):
    runs = 120
    counted, missed = tried(float(np.exp(factor)), runs)
    assert counted["no difference"] <= most(runs, ADVANCE_CHANCE)
    assert missed <= most(runs, INTERVAL_CHANCE)


@pytest.mark.parametrize(
    ("factor", "is_", "is_not"), [(2.0, "worse", "better"), (0.5, "better", "worse")]
)
def test_twice_or_half_the_errors_are_found_in_most_and_never_taken_for_the_other(
    factor, is_, is_not
):
    runs = 60
    counted, missed = tried(factor, runs)
    assert counted[is_] > 0.6 * runs
    assert counted[is_not] == counted["no difference"] == 0
    assert missed <= most(runs, INTERVAL_CHANCE)
