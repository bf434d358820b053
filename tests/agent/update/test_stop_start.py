"""Memory too short for two models: the swap is refused, or the old model makes room, in bounds."""

import shutil

import pytest

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Fallback, Probation, Swap
from support.agent_faults import FullDisk, Fuse, PowerCut
from support.agent_world import Device, World

STOP_START = Swap("stop_start", gap_seconds_max=10.0)
ONE_MODEL = 3 * MIB // 2
"""Of memory: a model here may take 1 MiB."""


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.memory_bytes = ONE_MODEL
    made.boot()
    world.direct(world.release("1", fallbacks=(Fallback("none", "no_decision"),)))
    made.run(60)
    assert made.step == "committed"
    made.memory_used_most = 0
    yield made
    if made.supervisor is not None:
        made.cut()


def notes(device):
    return [event.detail for event in device.events_of("note")]


def test_without_a_word_in_the_manifest_a_swap_is_refused_until_there_is_memory(world, device):
    world.direct(world.release("2"))
    device.run(30)
    assert (device.step, device.refusal, device.serving) == ("failed", Refusal.NO_MEMORY, ["1"])
    assert "stop_start" in device.report().update.detail
    assert device.memory_used_most <= ONE_MODEL
    device.memory_bytes = 2 * MIB
    device.run(600)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert not notes(device)


def test_where_the_manifest_says_so_the_old_model_makes_room_announced_and_reported(world, device):
    goal = world.release("2", swap=STOP_START)
    world.slow[goal.manifest] = 4.0
    world.direct(goal)
    device.run(3)
    assert (device.step, device.serving, device.falling_back) == ("starting", [], ["1"])
    report = device.report()
    assert (report.fallback, report.health) == (True, "check_function")
    assert "made room" in report.update.waiting_for
    device.run(57)
    assert (device.step, device.serving, device.falling_back) == ("committed", ["2"], [])
    assert device.memory_used_most <= ONE_MODEL
    announced, over = device.events_of("note")
    assert "for at most 10 s" in announced.detail
    assert announced.values == {"gap_seconds_max": 10.0}
    assert 4.0 <= over.values["gap_seconds"] <= 6.0
    assert device.report().update.gap_seconds == over.values["gap_seconds"]


def test_with_memory_for_both_nothing_stops(world, device):
    device.memory_bytes = 2 * MIB
    world.direct(world.release("2", swap=STOP_START))
    for _ in range(60):
        device.run(1)
        assert len(device.serving) == 1
    assert device.serving == ["2"]
    assert device.report().update.gap_seconds == 0


def test_a_candidate_that_is_not_ready_within_the_gap_gives_the_old_model_back(world, device):
    goal = world.release("2", swap=STOP_START)
    world.slow[goal.manifest] = 1000.0
    world.direct(goal)
    device.run(13)
    assert (device.step, device.refusal) == ("failed", Refusal.START_TIMEOUT)
    assert (device.serving, device.falling_back) == (["1"], [])
    assert 10.0 <= device.report().update.gap_seconds <= 12.0
    assert device.memory_used_most <= ONE_MODEL


def test_a_candidate_that_fails_in_the_gap_gives_the_old_model_back(world, device):
    goal = world.release("2", swap=STOP_START)
    world.faults[goal.manifest] = Refusal.GOLDEN_MISMATCH
    world.direct(goal)
    device.run(5)
    assert (device.step, device.refusal) == ("failed", Refusal.GOLDEN_MISMATCH)
    assert device.serving == ["1"]
    assert len(notes(device)) == 2


def test_a_candidate_that_errs_in_probation_makes_room_for_the_old_model(world, device):
    goal = world.release("2", swap=STOP_START)
    world.erring.add(goal.manifest)
    world.direct(goal)
    device.run(30)
    assert (device.step, device.refusal) == ("failed", Refusal.PROBATION_ERRORS)
    assert (device.serving, device.falling_back) == (["1"], [])
    assert device.memory_used_most <= ONE_MODEL


def test_a_candidate_that_may_crash_in_probation_starts_again_alone(world, device):
    probation = Probation(seconds=30.0, crashes_max=1)
    world.direct(world.release("2", swap=STOP_START, probation=probation))
    device.run(10)
    assert device.serving == ["2"]
    (running,) = (worker for worker in device.workers if worker.accepting)
    running.die()
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert device.memory_used_most <= ONE_MODEL


def test_another_goal_in_the_gap_gives_the_old_model_back_before_it_is_fetched(world, device):
    goal = world.release("2", swap=STOP_START)
    world.slow[goal.manifest] = 9.0
    world.direct(goal)
    device.run(3)
    assert device.serving == []
    unsigned = world.release("3", signed=False)
    world.direct(unsigned)
    device.run(3)
    assert (device.step, device.serving) == ("fetching", ["1"])
    world.direct(None)
    assert device.memory_used_most <= ONE_MODEL


def test_after_a_restart_the_old_model_serves_and_the_machine_is_asked_before_a_gap(world, device):
    goal = world.release("2", swap=STOP_START)
    world.slow[goal.manifest] = 5.0
    world.direct(goal)
    device.run(3)
    assert device.step == "starting"
    device.cut()
    device.forbidden = "the press is closed"
    device.boot()
    device.run(20)
    assert (device.step, device.serving) == ("starting", ["1"])
    assert "the press" in device.report().update.waiting_for
    device.forbidden = ""
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert device.memory_used_most <= ONE_MODEL


@pytest.mark.parametrize("memory_bytes", [ONE_MODEL, 4 * ONE_MODEL])
def test_a_start_that_waits_for_nothing_any_more_does_not_keep_a_processor_busy(
    world, device, memory_bytes
):
    goal = world.release("2", swap=STOP_START)
    world.slow[goal.manifest] = 15.0
    device.forbidden = "the press is closed"
    world.direct(goal)
    device.run(10)
    device.forbidden = ""
    device.run(3)
    device.cut()
    device.forbidden = "the press is closed"
    device.boot()
    device.run(10)
    assert (device.step, device.serving) == ("starting", ["1"])
    device.memory_bytes = memory_bytes
    if memory_bytes == ONE_MODEL:
        device.workers[0].die(-11)  # Who was to make room has gone by itself.
    device.run(5)
    assert device.report().update.waiting_for != device.forbidden
    assert device.supervisor.deadline(world.clock.seconds) > world.clock.seconds


def reboot(world, template, directory):
    shutil.copytree(template, directory, symlinks=True)
    made = Device(world, directory)
    made.memory_bytes = ONE_MODEL
    return made


@pytest.fixture
def directed(world, device):
    """The disk before an update that has no room beside the old model."""
    device.cut()
    world.direct(world.release("2", size=1000, swap=STOP_START))
    return device.directory


def steps(world, template, directory):
    whole = reboot(world, template, directory)
    fuse = Fuse()
    whole.boot(fuse)
    whole.run(60)
    assert (whole.step, whole.serving) == ("committed", ["2"])
    assert len(notes(whole)) == 2
    whole.cut()
    return fuse.steps


def test_a_power_cut_at_any_step_of_it_ends_in_old_or_new(world, directed, tmp_path):
    last = steps(world, directed, tmp_path / "whole")
    for step in range(1, last + 1):
        device = reboot(world, directed, tmp_path / str(step))
        try:
            device.boot(Fuse(step))
            device.run(60)
        except PowerCut:
            device.cut()
        device.boot()
        device.run(0.5)
        assert device.serving in (["1"], ["2"]), step
        device.run(60)
        assert (device.step, device.serving) == ("committed", ["2"]), step
        assert device.memory_used_most <= ONE_MODEL, step
        device.cut()
        shutil.rmtree(device.directory)


def test_a_full_disk_at_any_step_of_it_leaves_no_slot_without_a_model(world, directed, tmp_path):
    last = steps(world, directed, tmp_path / "whole")
    for step in range(1, last + 1):
        device = reboot(world, directed, tmp_path / str(step))
        device.boot(FullDisk(step, 8))
        silent = 0
        for _ in range(150):
            device.run(1)
            silent = 0 if device.serving else silent + 1
            assert silent <= 2, step
        assert (device.step, device.serving) == ("committed", ["2"]), step
        assert device.memory_used_most <= ONE_MODEL, step
        device.cut()
        shutil.rmtree(device.directory)
