"""A restart because an operator asked: once a request, in time, and noted before it is done."""

import pytest

from muster_agent.app.restarting import COUNTER
from muster_protocol.wire.directive import TimedRequest
from support.agent_world import NOW, Device, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.boot()
    yield made
    if made.supervisor is not None:
        made.cut()


def notes(device):
    return [event.detail for event in device.events_of("note") if "restart" in event.detail]


def test_a_request_counts_once_also_across_a_restart_and_the_next_one_again(world, device):
    goal = world.release("1")
    world.direct(goal)
    device.run(10)
    assert not device.supervisor.wants_restart
    world.direct(goal, restart=TimedRequest(3, NOW + 3600))
    device.run(10)
    assert device.supervisor.wants_restart
    assert notes(device) == ["the request to restart (3) is obeyed"]
    device.cut()
    device.boot()
    device.run(10)
    for request in (3, 2):
        world.direct(goal, restart=TimedRequest(request, NOW + 3600))
        device.run(10)
        assert not device.supervisor.wants_restart
    world.direct(goal, restart=TimedRequest(4, NOW + 3600))
    device.run(10)
    assert device.supervisor.wants_restart
    assert len(notes(device)) == 2


def test_a_request_that_comes_too_late_is_not_obeyed_then_or_ever(world, device):
    world.direct(world.release("1"), restart=TimedRequest(1, NOW - 1))
    device.run(10)
    assert not device.supervisor.wants_restart
    assert notes(device) == ["the request to restart (1) is not obeyed, it came too late"]
    assert device.state.counter(COUNTER) == 1
