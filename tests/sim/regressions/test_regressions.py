"""Bugs of the product that a seed has found, each by the faults it needed."""

import pytest

from sim.faults import KINDS, Fault
from sim.run import quiet
from sim.world import World

EACH = [f"dev-{number:02}" for number in range(10)]


@pytest.fixture(autouse=True)
def _quiet():
    quiet()


def plan(*faults: tuple[float, str, float]) -> list[Fault]:
    """The same for each device: (at, kind, size)."""
    assert {kind for _, kind, _ in faults} <= set(KINDS)
    return sorted(
        (Fault(at, kind, device, size) for at, kind, size in faults for device in EACH),
        key=lambda one: one.at,
    )


def test_a_disk_full_at_boot_keeps_no_model_from_serving_and_loses_no_window():
    """Rings left by the agent before could not be taken in, and the agent ended."""
    full = plan((60.0, "disk_full", 0.9), (65.0, "agent_killed", 0.5), (95.0, "agent_killed", 0.5))
    assert World(2, plan=full).run().violation is None


def test_a_swap_that_waited_when_the_agent_ended_goes_on_after_a_start_on_a_full_disk():
    """What the journal said was not resumed, then or later: the device stood still."""
    busy = plan((31.0, "machine_runs", 0.9), (60.0, "disk_full", 0.9), (62.0, "agent_killed", 0.5))
    assert World(2, plan=busy).run().violation is None


def test_a_candidate_that_dies_while_the_disk_is_full_passes_no_probation():
    """Its probation went on without it, and another that had not started was committed."""
    times = [(at, "disk_full", 0.7) for at in (80.0, 150.0, 220.0, 290.0)]
    assert World(5, plan=plan(*times)).run().violation is None
