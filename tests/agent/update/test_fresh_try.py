"""A refusal is kept until another goal comes, or a fresh try at the same one."""

import errno

import pytest
from msgspec import UNSET

from muster_agent.base.system_error import as_refusal
from muster_agent.update.table import PASSING
from muster_protocol.wire.directive import Goal, Slot
from muster_protocol.wire.errors import Refusal
from support.agent_world import SLOT, Device, World


@pytest.fixture
def device(tmp_path) -> Device:
    """A device that serves version 1 and has rolled version 2 back."""
    device = Device(World(), tmp_path)
    device.boot()
    device.world.direct(device.world.release("1"))
    device.run(60)
    bad = device.world.release("2")
    device.world.erring.add(bad.manifest)
    device.world.direct(bad)
    device.run(60)
    assert (device.step, device.serving) == ("failed", ["1"])
    assert device.refusal == Refusal.PROBATION_ERRORS
    device.world.erring.clear()
    return device


def direct(device: Device, goal: Goal, attempt: str) -> None:
    device.world.direct(goal, slots={SLOT: Slot(goal, attempt=attempt or UNSET)})


def refused(device: Device) -> Goal:
    return device.supervisor.runners[SLOT].row.goal


def test_the_same_goal_under_a_new_attempt_is_begun_anew(device):
    direct(device, refused(device), "2.0")
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


@pytest.mark.parametrize("attempt", ["", "2.0"])
def test_a_refusal_of_an_attempt_stays_under_the_same_one(device, attempt):
    goal = refused(device)
    device.world.erring.add(goal.manifest)
    direct(device, goal, attempt)
    device.run(60)
    tried = len(device.events_of("rolled_back"))
    for again in (attempt, "", attempt):
        direct(device, goal, again)
        device.run(60)
    assert device.step == "failed"
    assert len(device.events_of("rolled_back")) == tried


def test_a_fresh_try_asked_for_while_the_last_is_rolled_back_is_made(device):
    goal = refused(device)
    device.world.erring.add(goal.manifest)
    direct(device, goal, "2.0")
    while device.step != "probation":
        device.run(0.1)
    while device.step == "probation":
        device.run(0.1)
    device.world.erring.clear()
    direct(device, goal, "3.0")
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_fresh_try_outlives_a_power_cut(device):
    direct(device, refused(device), "2.0")
    while device.step != "probation":
        device.run(0.1)
    device.cut()
    device.boot()
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["2"])


def _raised(call) -> OSError:
    with pytest.raises(OSError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize("name", ["EAGAIN", "EMFILE", "ENFILE", "EACCES", "EBUSY", "ENODEV"])
def test_what_the_device_lacks_for_the_moment_is_tried_again_and_names_the_path(name):
    error = OSError(getattr(errno, name), "as it says", "/dev/apex_0")
    refusal, words = as_refusal(error, Refusal.FILE_MISMATCH)
    assert (refusal, words) == (Refusal.DEVICE_FAULT, "/dev/apex_0: as it says")
    assert refusal in PASSING


def test_a_full_disk_and_short_memory_keep_their_names_and_a_missing_file_is_the_bundles(tmp_path):
    gone = _raised((tmp_path / "none").read_bytes)
    assert as_refusal(gone, Refusal.FILE_MISMATCH)[0] is Refusal.FILE_MISMATCH
    assert as_refusal(OSError(28, "full"), Refusal.FILE_MISMATCH) == (Refusal.NO_SPACE, "full")
    assert as_refusal(OSError(12, "none"), Refusal.WORKER_DIED) == (Refusal.NO_MEMORY, "none")


@pytest.mark.parametrize("refusal", sorted(PASSING))
def test_every_passing_cause_is_tried_again_after_a_pause(tmp_path, refusal):
    device = Device(World(), tmp_path)
    device.boot()
    goal = device.world.release("1")
    device.world.faults[goal.manifest] = refusal
    device.world.direct(goal)
    device.run(2)
    device.world.faults.clear()
    device.run(900)
    assert (device.step, device.serving) == ("committed", ["1"])
