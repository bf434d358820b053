"""Bugs of the product that a seed has found, each by the faults it needed."""

from sim.faults import KINDS, Fault
from sim.world import World

EACH = [f"dev-{number:02}" for number in range(10)]
OF_ALL = {"operator_aborts"}
"""Faults that are no device's."""
WATCHING = 9
"""A seed whose world watches inputs for drift."""


def plan(*faults: tuple[float, str, float]) -> list[Fault]:
    """The same for each device: (at, kind, size)."""
    assert {kind for _, kind, _ in faults} <= set(KINDS)
    each = (
        Fault(at, kind, device, size)
        for at, kind, size in faults
        for device in (EACH[:1] if kind in OF_ALL else EACH)
    )
    return sorted(each, key=lambda item: item.at)


def test_a_disk_full_at_boot_keeps_no_model_from_serving_and_loses_no_window():
    """Rings left by the agent before could not be taken in, and the agent ended."""
    full = plan((60.0, "disk_full", 0.9), (65.0, "agent_killed", 0.5), (95.0, "agent_killed", 0.5))
    assert World(2, plan=full).run().violation is None


def test_a_swap_that_waited_when_the_agent_ended_goes_on_after_a_start_on_a_full_disk():
    """What the journal said was not resumed, then or later: the device stood still."""
    busy = plan((31.0, "machine_runs", 0.9), (60.0, "disk_full", 0.9), (62.0, "agent_killed", 0.5))
    assert World(2, plan=busy).run().violation is None


def test_a_candidate_that_dies_while_the_disk_is_full_passes_no_probation():
    """Its probation went on without it, and another that had not started was let serve."""
    full = [(58.0 + 20 * n, "disk_full", 0.0) for n in range(10)]
    dies = [(60.0 + 6 * n, "worker_crash", 1.0) for n in range(30)]
    assert World(1, plan=plan(*full, *dies)).run().violation is None


def test_a_directive_that_is_withdrawn_while_its_bundle_is_fetched_does_not_end_the_agent():
    """The only fetch was stopped before it was forgotten, and stopped again by what followed."""
    aborts = [(at, "operator_aborts", 0.5) for at in (66.0, 68.0, 70.0)]
    assert World(1, plan=plan((55.0, "slow_line", 0.99), *aborts)).run().violation is None


def test_a_champion_that_rots_while_another_is_on_probation_is_fetched_anew():
    """The rollback waited for it for ever: nothing served, no directive was followed."""
    rots = [(58.0 + 6 * n, "bundle_rots", 0.0) for n in range(8)]
    restarts = [(61.0 + 6 * n, "agent_killed", 0.0) for n in range(6)]
    assert World(0, plan=plan(*rots, *restarts)).run().violation is None


def test_a_swap_whose_step_a_full_disk_did_not_take_says_so():
    full = [(31.0 + 40 * n, "disk_full", 0.3) for n in range(6)]
    assert World(0, plan=plan(*full)).run().violation is None


def test_rows_on_their_way_do_not_fill_the_outbox():
    """Rows in flight neither merge nor go: as they filled it, it outgrew its bound or dropped."""
    lost = [(65.0 + 12 * n, "loss_upward", 0.99) for n in range(18)]
    assert World(0, plan=plan((60.0, "slow_line", 0.99), *lost)).run().violation is None


def test_drift_found_in_a_window_that_a_full_disk_did_not_take_is_told_with_the_next():
    """The window was rolled back, what had been found in it was not: it was no news any more."""
    moved = plan((190.0, "inputs_move", 0.5), (195.0, "disk_full", 0.9))
    assert World(WATCHING, plan=moved).run().violation is None


def test_a_start_whose_champion_goes_while_it_waits_keeps_no_processor_busy():
    """The champion was to make room as soon as the machine allows it, and went by itself."""
    staged = ((53.0, "machine_runs", 0.2), (80.2, "agent_killed", 0.5), (80.6, "machine_runs", 0.0))
    goes = [(at, "worker_crash", 0.0) for at in (86.0, 88.0, 90.0)]
    assert World(7, plan=plan(*staged, *goes)).run().violation is None
