"""From signed messages to goals: only the manifest that release keys signed, byte for byte."""

import msgspec
import pytest

from muster_protocol.wire.errors import Refusal
from support.agent_world import SLOT, Device, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.boot()
    world.direct(world.release("1", size=1000))
    made.run(60)
    assert (made.step, made.serving) == ("committed", ["1"])
    yield made
    made.cut()


@pytest.mark.parametrize(
    "claimed",
    [
        pytest.param(lambda goal: {"manifest_bytes": goal.manifest_bytes + 1}, id="longer"),
        pytest.param(lambda goal: {"manifest_bytes": goal.manifest_bytes - 1}, id="shorter"),
        pytest.param(lambda goal: {"manifest": "ab" * 32}, id="another hash"),
        pytest.param(lambda goal: {"version": "3"}, id="another version"),
    ],
)
def test_a_goal_that_differs_from_the_signed_entry_in_one_field_is_refused(world, device, claimed):
    goal = world.release("2", size=1000)
    world.direct(msgspec.structs.replace(goal, **claimed(goal)))
    device.run(40)
    assert (device.step, device.refusal) == ("failed", Refusal.UNSIGNED_MANIFEST)
    assert device.serving == ["1"]
    world.direct(world.release("4", size=1000))
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["4"])


def test_a_directive_is_durable_before_any_slot_hears_of_it(world, device):
    world.direct(world.release("2", size=1000), generation=7)
    device.run(2)
    adopted = device.state.adopted()
    assert (adopted.epoch, adopted.generation) == (1, 7)
    assert device.supervisor.runners[SLOT].row.generation == 7


def test_an_older_generation_is_refused_also_after_a_restart(world, device):
    world.direct(world.release("2", size=1000), generation=9)
    device.run(60)
    device.cut()
    device.boot()
    world.direct(world.release("3", size=1000), generation=8)
    device.run(30)
    assert device.serving == ["2"]
    assert device.reports[-1].refusal == Refusal.STALE_GENERATION
