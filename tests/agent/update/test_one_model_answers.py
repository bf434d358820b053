"""Of one slot's workers exactly one answers, whatever becomes of the others."""

import pytest

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
    world.direct(world.release("2"))
    made.run(15)
    assert (made.step, made.serving) == ("probation", ["2"])
    yield made
    made.cut()


def champion(device):
    return next(worker for worker in device.workers if worker.alive and not worker.accepting)


def test_a_champion_that_dies_and_comes_back_during_a_probation_answers_nobody(world, device):
    dead = champion(device)
    dead.die()
    for _ in range(20):
        device.run(0.5)
        assert device.serving == ["2"]
        if device.step != "probation":
            break
    assert champion(device) is not dead
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_champion_that_came_back_takes_over_when_the_candidate_fails(world, device):
    champion(device).die()
    device.run(5)
    next(worker for worker in device.workers if worker.accepting).die()
    device.run(1)
    assert (device.step, device.serving) == ("failed", ["1"])
