"""Power cuts at every step of an update: the device ends with the old model or the new one."""

import shutil

import pytest

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX
from muster_protocol.wire.manifest import Probation
from support.agent_faults import FullDisk, Fuse, PowerCut
from support.agent_world import SLOT, Device, World


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """A world whose device has committed version 1, and the directory it left."""
    world = World()
    first = Device(world, tmp_path_factory.mktemp("first"))
    first.boot()
    goal = world.release("1", size=200_000)
    world.direct(goal)
    first.run(60)
    assert first.step == "committed"
    first.cut()
    return world, first.directory, goal


def reboot(world, template, directory):
    shutil.copytree(template, directory, symlinks=True)
    return Device(world, directory)


def live_until_cut(device, step, seconds):
    try:
        device.boot(Fuse(step))
        device.run(seconds)
    except PowerCut:
        device.cut()
    else:
        pytest.fail(f"the device never came to step {step}")


def steps_of_an_update(plant, directory):
    world, template, _ = plant
    device = reboot(world, template, directory)
    fuse = Fuse()
    device.boot(fuse)
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["2"])
    device.cut()
    return fuse.steps


def test_a_power_cut_at_any_step_of_an_update_ends_in_old_or_new(plant, tmp_path):
    world, template, _ = plant
    world.direct(world.release("2", size=200_000))
    steps = steps_of_an_update(plant, tmp_path / "whole")
    assert steps > 40
    for step in range(1, steps + 1):
        device = reboot(world, template, tmp_path / str(step))
        live_until_cut(device, step, 90)
        device.boot()
        device.run(0.5)
        assert device.serving in (["1"], ["2"]), step
        device.run(90)
        assert (device.step, device.serving) == ("committed", ["2"]), step
        assert list(device.store.problems()) == [], step
        link = device.directory / "current" / SLOT
        assert link.resolve().name == device.state.pointers()[SLOT].goal.manifest, step
        commits = [e for e in device.events_of("update") if e.state == "committed"]
        assert len(commits) == 1, step
        device.cut()
        shutil.rmtree(device.directory)


def test_a_power_cut_at_any_step_of_a_rollback_ends_with_the_champion(plant, tmp_path):
    world, template, _ = plant
    bad = world.release("3", size=200_000)
    world.erring.add(bad.manifest)
    world.direct(bad)
    whole = reboot(world, template, tmp_path / "whole")
    fuse = Fuse()
    whole.boot(fuse)
    whole.run(60)
    assert (whole.refusal, whole.serving) == (Refusal.PROBATION_ERRORS, ["1"])
    whole.cut()
    for step in range(1, fuse.steps + 1):
        device = reboot(world, template, tmp_path / str(step))
        live_until_cut(device, step, 60)
        device.boot()
        device.run(90)
        assert (device.step, device.refusal) == ("failed", Refusal.PROBATION_ERRORS), step
        assert device.serving == ["1"], step
        assert device.state.pointers()[SLOT].goal.version == "1", step
        assert len(device.events_of("rolled_back")) == 1, step
        device.cut()
        shutil.rmtree(device.directory)


def test_a_plant_that_loses_power_every_night_finishes_its_probation(plant, tmp_path):
    world, template, _ = plant
    world.direct(world.release("4", probation=Probation(seconds=300.0)))
    device = reboot(world, template, tmp_path / "nightly")
    for _ in range(40):
        device.boot()
        device.run(20)
        if device.step == "committed" and device.serving == ["4"]:
            break
        device.cut()
    assert (device.step, device.serving) == ("committed", ["4"])
    assert device.events_of("rolled_back") == []
    device.cut()


def test_a_candidate_that_takes_the_whole_device_down_is_given_up(plant, tmp_path):
    world, template, _ = plant
    deadly = world.release("5", size=1000)
    world.killing.add(deadly.manifest)
    world.direct(deadly)
    device = reboot(world, template, tmp_path / "loop")
    deaths = 0
    while True:
        try:
            device.boot()
            device.run(30)
        except PowerCut:
            deaths += 1
            device.cut()
            assert deaths <= JOURNAL_RESUMES_MAX + 1
        else:
            break
    assert (device.step, device.refusal) == ("failed", Refusal.RESUME_LIMIT)
    assert device.serving == ["1"]
    device.cut()


def test_a_database_that_is_full_for_a_while_at_any_step_only_delays_an_update(plant, tmp_path):
    world, template, _ = plant
    world.direct(world.release("6", size=1000))
    whole = reboot(world, template, tmp_path / "whole")
    fuse = Fuse()
    whole.boot(fuse)
    whole.run(60)
    assert (whole.step, whole.serving) == ("committed", ["6"])
    whole.cut()
    for step in range(1, fuse.steps + 1):
        device = reboot(world, template, tmp_path / str(step))
        device.boot(FullDisk(step))
        for _ in range(180):
            device.run(1)
            assert len(device.serving) == 1, step
        assert (device.step, device.serving) == ("committed", ["6"]), step
        device.cut()
        shutil.rmtree(device.directory)
