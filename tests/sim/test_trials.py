"""Shadows, challengers and experiments, lived in seeds; each planted bug of theirs is found."""

import pytest

from sim.trial_plants import TRIAL_PLANTS
from sim.trial_world import TrialWorld

FOUND_BY = {
    "a challenger answers": (0, {"one model answers", "a challenger answers nobody"}),
    "a rotten challenger compares": (9, {"only what release keys signed is compared"}),
    "a challenger never leaves": (0, {"one challenger a slot"}),
    "comparisons counted again": (7, {"each comparison is counted once"}),
    "a deadly challenger without bound": (1, {"a challenger's starts are bounded"}),
    "arms drawn again": (0, {"who takes part in an experiment stays fixed"}),
    "arm A asked too": (0, {"arm A keeps what it runs"}),
    "a shadow that swaps": (0, {"a shadow asks nobody to run it"}),
}
"""The first seed that finds it, and by which promise."""


def test_releases_are_tried_in_shadow_and_by_experiment_and_every_promise_holds():
    outcome = TrialWorld(0).run()
    assert outcome.violation is None, str(outcome.violation)
    assert outcome.counts["challengers started"] >= 3
    assert outcome.counts["compared"] >= 100
    assert outcome.counts["shadow"] + outcome.counts["both"] >= 1
    assert outcome.counts["experiment"] + outcome.counts["both"] >= 1
    assert TrialWorld(0).run().digest == outcome.digest, "a seed is the same world each time"


def test_each_planted_bug_has_a_promise_that_it_breaks():
    assert FOUND_BY.keys() == TRIAL_PLANTS.keys()


@pytest.mark.parametrize("plant", FOUND_BY)
def test_a_planted_bug_of_trials_is_found(plant):
    seed, promises = FOUND_BY[plant]
    found = TrialWorld(seed, doubles=TRIAL_PLANTS[plant]).run().violation
    assert found is not None
    assert found.invariant in promises
