"""A slice of the slow worlds: certificates, metadata and telemetry age, and each planted bug of
theirs is found.
"""

import pytest

from sim.run import SLOW_PLANT_DAYS, SLOW_PLANT_SEEDS, quiet
from sim.slow_plants import SLOW_PLANTS
from sim.slow_world import SlowWorld

FOUND_BY = {
    "renewal never asked": "a certificate is renewed while it can be",
    "retention one day short": "nothing younger than is kept is gone",
    "retention one day long": "what is older than is kept is gone",
    "metadata not signed anew": "metadata are signed anew in time",
    "a window added again": "hours add up to what was told",
    "expired for ever": "who may come in comes in",
    "a revoked card renewed": "a clone stays out",
    "takeovers not seen": "two machines with one identity are told of",
    "nobody told of a move": "who is there hears where the hub is",
    "the deaf not listed": "who has not heard of a move is listed",
    "the first authority forgotten": "who may come in comes in",
}


@pytest.fixture(autouse=True)
def _quiet():
    quiet()


def test_a_fleet_lives_through_a_season_of_renewals_a_move_a_rotation_and_a_clone():
    outcome = SlowWorld(0, days=SLOW_PLANT_DAYS).run()
    assert outcome.violation is None, str(outcome.violation)
    counts = outcome.counts
    for kind in ("renewed", "renewed late", "moved", "rotated", "cloned", "clone refused"):
        assert counts[kind] >= 1, f"{kind}: {dict(counts)}"


def test_a_seed_is_the_same_slow_world_each_time():
    first, again = (SlowWorld(1, days=20.0).run() for _ in range(2))
    assert first.digest == again.digest


@pytest.mark.parametrize("plant", SLOW_PLANTS)
def test_a_planted_bug_of_slow_things_is_found(plant):
    worlds = (
        SlowWorld(seed, SLOW_PLANTS[plant], SLOW_PLANT_DAYS).run()
        for seed in range(SLOW_PLANT_SEEDS)
    )
    found = next((each.violation for each in worlds if each.violation is not None), None)
    assert found is not None
    assert found.invariant == FOUND_BY[plant]
