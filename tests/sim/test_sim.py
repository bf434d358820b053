"""A slice of ``make sim``: a few worlds, some planted bugs, and the machinery's own promises."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from sim import faults
from sim.catalogue import scratch
from sim.plants import PLANTS, seeds_to_find
from sim.run import lacking, pool, row
from sim.shrink import in_words, shrink
from sim.watch import Violation
from sim.world import TRANSITIONS, World, lived

WATCHING = 9
"""A world that watches its inputs for drift."""
SLOW = {6}
"""Worlds in which half the devices have slow lines, and some a meter."""
SEEDS = (*range(7), WATCHING)
SEEDS_OF_PLANTS_MAX = 8
EARLY = (
    "stale retained command executed", "unsigned bundle runs", "rollback memory lost",
    "success on the old image", "acknowledged before commit", "duplicate batch counted",
    "budget not handed on", "directive not retained", "outbox epoch reused",
    "fold cursor not saved", "two models answer", "rotten model runs",
    "an answer ends the agent",
)  # fmt: skip
"""Bugs that a few seeds find; ``make sim`` looks for all of them."""
FOUND_BY = {
    "budget not handed on": 1, "directive not retained": 1, "outbox epoch reused": 7,
    "unsigned bundle runs": 2,
}  # fmt: skip
"""Where the first seed is known to find nothing: the one that is tried first."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_keeps_every_promise_whatever_happens(seed):
    assert World(seed).watching == (seed == WATCHING)
    assert World(seed).slow == (seed in SLOW)
    outcome = lived(seed)
    assert outcome.violation is None, f"replay it: make sim SEED={seed}"
    assert lacking(outcome) == []
    assert outcome.transitions <= TRANSITIONS


@pytest.mark.parametrize("plant", EARLY)
def test_a_planted_bug_is_found(plant, record_property):
    known = FOUND_BY.get(plant, 0)
    seeds = (known, *(seed for seed in range(SEEDS_OF_PLANTS_MAX) if seed != known))
    name, seed, promise = seeds_to_find(plant, seeds)
    assert seed is not None, f"{name} is not found within {SEEDS_OF_PLANTS_MAX} seeds"
    record_property("planted", row(name, seed, promise))


def test_at_least_twelve_bugs_are_planted():
    assert len(PLANTS) >= 12
    assert set(EARLY) <= set(PLANTS)


def test_a_seed_is_the_same_world_in_every_process():
    script = (
        "from sim.run import quiet; from sim.world import World; quiet()\n"
        "from sim.plants import PLANTS\n"
        "print(World(0, doubles=PLANTS['duplicate batch counted']).run().digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            cwd=ROOT / "tests", env={"PYTHONHASHSEED": hashed, "PYTHONPATH": str(ROOT / "tests")},
        ).stdout
        for hashed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_a_failure_is_shrunk_to_the_faults_it_needs_and_told_in_words():
    plant = "rotten model runs"
    doubles = PLANTS[plant]
    world = World(1, doubles=doubles)
    violation = world.run().violation
    assert violation is not None
    short = shrink(1, world.plan, violation.invariant, doubles=doubles)
    assert len(short.plan) < 6
    text = in_words(short, "abc1234", plant)
    assert text.startswith("seed 1, commit abc1234: only what release keys signed runs")
    assert f"""make sim SEED=1 ARGS='--plant "{plant}"'""" in text


def test_processes_that_live_worlds_leave_nothing_in_memory():
    with pool(1) as workers:
        made = workers.apply(scratch)
        assert made.is_dir()
    assert not made.parent.exists()


def test_a_violation_comes_out_of_the_process_that_found_it():
    with pool(1) as workers:
        found = workers.apply(Violation, ("one model answers", "dev-01 main: both accept"))
    assert found.invariant == "one model answers"
    assert str(found) == "one model answers: dev-01 main: both accept"


def test_a_plan_names_every_kind_of_fault_in_time():
    drawn = [
        item
        for seed in range(20)
        for item in faults.draw(random.Random(seed), ["dev-00", "dev-01"], 205, 600.0)
    ]
    assert {item.kind for item in drawn} == set(faults.KINDS)
    assert all(20.0 <= item.at <= 600.0 for item in drawn)
