"""Updates of the agent itself, lived in seeds; each planted bug of theirs is found."""

import pytest

from sim.release_plants import RELEASE_PLANTS
from sim.release_world import ReleaseWorld

FOUND_BY = {
    "on trial before it is whole": {"one whole release always starts"},
    "starts of a trial not counted": {"tries are bounded"},
    "installed over what runs": {
        "what starts is what the record says", "one whole release always starts",
    },
    "an old release is taken": {"nobody goes back further than to what ran before"},
    "no link asked of the next agent": {"a bad release is never kept"},
    "started is taken for healthy": {"a bad release is never kept"},
}  # fmt: skip
SEEDS_MAX = 4
FIRST = {"on trial before it is whole": 14}
"""Where the first seeds are known to find nothing."""


@pytest.mark.parametrize("seed", [0, 23])
def test_whatever_release_is_asked_for_and_whenever_the_power_goes_a_whole_agent_runs(seed):
    outcome = ReleaseWorld(seed).run()
    assert outcome.violation is None, str(outcome.violation)
    assert outcome.counts["in place"] >= 6
    assert outcome.counts["power cuts"] >= 5
    assert ReleaseWorld(seed).run().steps == outcome.steps, "a seed is the same world each time"


@pytest.mark.parametrize("plant", RELEASE_PLANTS)
def test_a_planted_bug_of_the_agent_s_updates_is_found(plant):
    first = FIRST.get(plant, 0)
    seeds = range(first, first + SEEDS_MAX)
    worlds = (ReleaseWorld(seed, RELEASE_PLANTS[plant]).run() for seed in seeds)
    found = next((each.violation for each in worlds if each.violation is not None), None)
    assert found is not None
    assert found.invariant in FOUND_BY[plant]
