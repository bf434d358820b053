"""From signed messages to goals: only the manifest that release keys signed, byte for byte."""

import json

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


@pytest.mark.parametrize("restarted", [False, True])
def test_under_an_empty_directive_what_is_on_its_way_is_judged_by_news_of_its_model(
    world, device, restarted
):
    goal = world.release("2", size=1000, signed=False)
    world.direct(goal)
    device.run(40)
    assert (device.step, device.refusal) == ("failed", Refusal.UNSIGNED_MANIFEST)
    world.direct(None)
    device.run(5)
    if restarted:
        device.cut()
        device.boot()
        device.run(5)
    world.repository.release("digits", "2", world.http[goal.manifest])
    world.publish_catalogue()
    device.run(600)
    assert device.supervisor.goals.verdict(goal) is None
    if not restarted:  # or the hub has to permit it: an empty directive has no policy
        assert (device.step, device.serving) == ("committed", ["2"])


@pytest.mark.parametrize("times", [1, 3])
def test_an_old_timestamp_that_comes_late_ends_no_cycle_that_is_under_way(world, device, times):
    old = world.repository.files["timestamp.json"]
    goal = world.release("2", size=1000)
    goals, new = device.supervisor.goals, dict(world.repository.files)
    (snapshot,) = (name for name in new if name == f"{version_of(new)}.snapshot.json")
    device.inbox.clear()
    now = world.clock.seconds
    goals.put_metadata("timestamp.json", new["timestamp.json"], now)
    for _ in range(times):
        goals.put_metadata("timestamp.json", old, now)
    goals.put_metadata(snapshot, new[snapshot], now)
    for name in sorted(new):
        goals.put_metadata(name, new[name], now + 5)
    goals.tick(now + 10)
    assert goals.verdict(goal) is None


def test_metadata_that_a_wrong_clock_refused_are_judged_anew_once_the_clock_is_right(world, device):
    world.clock.wall_offset += 400 * 86_400.0
    goal = world.release("2", size=1000)
    device.run(30)
    assert device.supervisor.goals.refusal[0] == Refusal.METADATA_EXPIRED
    world.clock.wall_offset -= 400 * 86_400.0
    world.direct(goal)
    device.run(120)
    assert (device.step, device.serving) == ("committed", ["2"])


def version_of(files):
    return json.loads(files["timestamp.json"])["signed"]["meta"]["snapshot.json"]["version"]


def test_an_older_generation_is_refused_also_after_a_restart(world, device):
    world.direct(world.release("2", size=1000), generation=9)
    device.run(60)
    device.cut()
    device.boot()
    world.direct(world.release("3", size=1000), generation=8)
    device.run(30)
    assert device.serving == ["2"]
    assert device.reports[-1].refusal == Refusal.STALE_GENERATION
