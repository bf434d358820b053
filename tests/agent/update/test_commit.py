"""What a commit leaves behind: the truth on the disk, and a version to go back to."""

import shutil
import sqlite3

import pytest

from muster_agent.storage.state import FILE, read_state
from muster_agent.update.demotion import CRASHES
from support.agent_world import SLOT, Device, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path / "device")
    made.boot()
    yield made
    if made.supervisor is not None:
        made.cut()


def commit(world, device, version):
    goal = world.release(version, size=1000)
    world.direct(goal)
    device.run(60)
    assert (device.step, device.serving) == ("committed", [version])
    return goal


def crash(device, times):
    """The model that serves dies, as soon as it serves again."""
    for _ in range(times):
        for _ in range(40):
            device.run(1)
            if device.serving:
                break
        next(worker for worker in device.workers if worker.accepting and worker.model).die()
        device.run(0.1)


def without_the_log(device, directory):
    """The version that the database file alone names, as on a disk that lost the log."""
    directory.mkdir()
    shutil.copy(device.directory / FILE, directory / FILE)
    state = read_state(directory)
    try:
        return state.pointers()[SLOT].goal.version
    except sqlite3.Error:
        return "nothing"
    finally:
        state.close()


def test_the_database_file_alone_names_what_was_committed(world, device, tmp_path):
    commit(world, device, "1")
    commit(world, device, "2")
    assert without_the_log(device, tmp_path / "copy") == "2"


def test_the_database_file_alone_names_what_a_late_demotion_went_back_to(world, device, tmp_path):
    commit(world, device, "1")
    commit(world, device, "2")
    crash(device, CRASHES)
    device.run(5)
    assert device.serving == ["1"]
    assert without_the_log(device, tmp_path / "copy") == "1"


def test_a_version_that_was_repaired_still_gives_way_to_the_one_before_it(world, device):
    commit(world, device, "1")
    goal = commit(world, device, "2")
    device.cut()
    model = device.store.bundle(goal.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    device.boot()
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
    crash(device, CRASHES)
    device.run(5)
    assert (device.step, device.serving) == ("failed", ["1"])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_version_kept_beside_that_has_rotted_is_fetched_anew_when_it_is_asked_for(
    world, device, restarted
):
    first = commit(world, device, "1")
    commit(world, device, "2")
    model = device.store.bundle(first.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    if restarted:
        device.cut()
        device.boot()
    world.direct(first)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["1"])
    assert list(device.store.problems()) == []
    assert [event.version for event in device.events_of("failed")] == []
