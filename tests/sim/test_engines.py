"""Several hubs on one database, lived in seeds; each planted bug of the lease is found."""

import pytest

from sim.engine_plants import ENGINE_PLANTS
from sim.engine_world import EngineWorld

SEEDS_OF_PLANTS_MAX = 6
CHAOS_SECONDS = 60.0
FIRST = {"the holder trusts its own clock": 1}
"""Where the first seed is known to find nothing: the one that is tried first."""
FOUND_BY = {
    "a lease without a fence": {"who lost the lease persists nothing"},
    "the holder trusts its own clock": {"who lost the lease persists nothing"},
    "a lease by one's own clock": {"a stand-by takes over"},
    "nobody takes over": {"a stand-by takes over"},
    "takes over with what it knew": {
        "a directive's number says one thing", "directive numbers never go back",
    },
}  # fmt: skip


def test_of_several_hubs_one_decides_whatever_stops_dies_or_has_another_time():
    outcome = EngineWorld(0, chaos_seconds=CHAOS_SECONDS).run()
    assert outcome.violation is None, str(outcome.violation)
    assert outcome.counts["taken over"] >= 2
    assert outcome.counts["directives"] >= 10
    again = EngineWorld(0, chaos_seconds=CHAOS_SECONDS).run()
    assert again.digest == outcome.digest, "a seed is the same world each time"


@pytest.mark.parametrize("plant", ENGINE_PLANTS)
def test_a_planted_bug_of_the_lease_is_found(plant):
    first = FIRST.get(plant, 0)
    seeds = (first, *(seed for seed in range(SEEDS_OF_PLANTS_MAX) if seed != first))
    worlds = (EngineWorld(seed, ENGINE_PLANTS[plant]).run() for seed in seeds)
    found = next((each.violation for each in worlds if each.violation is not None), None)
    assert found is not None
    assert found.invariant in FOUND_BY[plant]
