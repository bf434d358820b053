"""A candidate's end by a signal that others send, as when a whole machine is stopped."""

import signal

import pytest

from muster_agent.update.ended import GRACE_SECONDS
from muster_protocol.wire.errors import Refusal
from support.agent_world import Device, World

STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]


@pytest.fixture
def device(tmp_path) -> Device:
    """A device with version 2 in probation over version 1."""
    world = World()
    device = Device(world, tmp_path)
    device.boot()
    for version in ("1", "2"):
        world.direct(world.release(version))
        device.run(60 if version == "1" else 20)
    assert (device.step, device.serving) == ("probation", ["2"])
    return device


def end_candidate(device: Device, number: int) -> None:
    next(worker for worker in device.workers if worker.accepting).die(-number)
    device.run(GRACE_SECONDS / 2)


@pytest.mark.parametrize("number", STOPS)
def test_the_champion_answers_at_once_and_nothing_is_judged_within_the_grace(device, number):
    end_candidate(device, number)
    assert (device.step, device.serving, device.refusal) == ("probation", ["1"], None)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("kindly", [True, False])
def test_an_agent_that_is_stopped_with_its_worker_goes_on_with_the_probation(
    device, number, kindly
):
    end_candidate(device, number)
    if kindly:
        device.stop()
    device.cut()
    device.boot()
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert device.events_of("rolled_back") == []


@pytest.mark.parametrize("number", STOPS)
def test_a_worker_that_alone_was_ended_is_judged_after_the_grace(device, number):
    end_candidate(device, number)
    device.run(GRACE_SECONDS)
    assert (device.step, device.refusal) == ("failed", Refusal.PROBATION_CRASHED)
    assert device.serving == ["1"]


def test_another_goal_meanwhile_is_not_refused_for_it(device):
    end_candidate(device, signal.SIGTERM)
    device.world.direct(device.world.release("3"))
    device.run(120)
    assert (device.step, device.serving) == ("committed", ["3"])
