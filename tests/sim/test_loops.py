"""Loops lived in seeds: some worlds, and each planted bug found by the promise that it breaks."""

import pytest

from sim.loop_plants import LOOP_PLANTS
from sim.loop_world import LoopWorld

SEEDS = range(3)
FOUND_BY = {
    "cool-down forgotten": "the cool-down is kept",
    "budget forgotten": "the budget is kept",
    "training without deadline": "no state outlasts its deadline",
    "nobody asked to approve": "a person approves each training",
    "a training for each attempt": "a loop trains once",
    "opened beside another": "one loop a model",
}
SEEDS_OF_PLANTS_MAX = 6


@pytest.mark.parametrize("seed", SEEDS)
def test_loops_keep_every_promise_whatever_pipelines_and_people_do(seed):
    outcome = LoopWorld(seed).run()
    assert outcome.violation is None
    assert outcome.counts["opened"] >= 5, outcome.counts


@pytest.mark.parametrize("plant", LOOP_PLANTS)
def test_a_planted_bug_of_loops_is_found(plant):
    worlds = (LoopWorld(seed, LOOP_PLANTS[plant]).run() for seed in range(SEEDS_OF_PLANTS_MAX))
    found = next((each.violation for each in worlds if each.violation is not None), None)
    assert found is not None
    assert found.invariant == FOUND_BY[plant]
