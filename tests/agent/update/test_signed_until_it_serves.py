"""A version is judged by the catalogue again before it starts, and again before it serves."""

import pytest

from muster_agent.update.interlocks import put_hold, remove_hold
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import target_path
from support.agent_world import Device, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.boot()
    world.direct(world.release("1"))
    made.run(60)
    assert (made.step, made.serving) == ("committed", ["1"])
    yield made
    made.cut()


def retire(world, version):
    del world.repository.roles["model-digits"].signed.targets[target_path("digits", version)]
    world.repository.publish("model-digits")
    world.publish_catalogue()


def assert_refused(device):
    assert (device.step, device.refusal) == ("failed", Refusal.UNSIGNED_MANIFEST)
    assert device.serving == ["1"]
    assert [event.refusal for event in device.events_of("refused")] == [Refusal.UNSIGNED_MANIFEST]


def test_a_version_retired_while_it_waits_behind_a_hold_never_starts(world, device):
    put_hold(device.directory, None, "Ada is at the machine")
    world.direct(world.release("2"))
    device.run(20)
    assert device.step == "staged"
    retire(world, "2")
    device.run(20)
    launched = device.launched
    remove_hold(device.directory, None)
    device.run(20)
    assert_refused(device)
    assert device.launched == launched


def test_a_version_retired_before_a_restart_in_its_start_is_not_started_again(world, device):
    goal = world.release("2")
    world.hanging.add(goal.manifest)
    world.direct(goal)
    device.run(20)
    assert device.step == "starting"
    retire(world, "2")
    device.run(20)
    device.cut()
    device.boot()
    device.run(20)
    assert_refused(device)
    assert [worker.goal.version for worker in device.workers] == ["1"]


def test_a_version_retired_while_it_is_ready_and_the_machine_forbids_never_serves(world, device):
    goal = world.release("2")
    world.slow[goal.manifest] = 10.0
    world.direct(goal)
    device.run(8)
    assert device.step == "starting"
    device.forbidden = "the press is closed"
    device.run(30)
    assert device.report().update.waiting_for == "the press is closed"
    retire(world, "2")
    device.run(20)
    device.forbidden = ""
    device.run(20)
    assert_refused(device)
