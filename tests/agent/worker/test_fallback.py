"""The signed fallback answers whenever no model can, and the model takes over again."""

import pytest

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Fallback
from support.agent_world import Device, World

FALLBACKS = (Fallback("unsure", "no_decision"), Fallback("last", "last_good", ttl_seconds=60.0))


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


def committed(device, world, version="1", **fields):
    goal = world.release(version, **fields)
    world.direct(goal)
    device.run(60)
    assert (device.step, device.serving) == ("committed", [version])
    return goal


def test_the_fallback_answers_while_a_champion_cannot_run_and_goes_when_it_can(world, device):
    goal = committed(device, world, fallbacks=FALLBACKS)
    world.faults[goal.manifest] = Refusal.NO_MEMORY
    device.workers[-1].die(-9)
    device.run(30)
    assert (device.serving, device.falling_back) == ([], ["1"])
    slot_report = device.reports[-1].slots["main"]
    assert (slot_report.health, slot_report.fallback, slot_report.running) == (
        "failure",
        True,
        None,
    )
    del world.faults[goal.manifest]
    device.run(120)
    assert (device.serving, device.falling_back) == (["1"], [])
    assert not device.reports[-1].slots["main"].fallback
    assert [worker.model for worker in device.workers if worker.alive] == [True]


def test_never_are_two_asked_at_once_while_fallback_and_model_change_places(world, device):
    committed(device, world, fallbacks=FALLBACKS)
    for _ in range(20):
        for worker in device.workers:
            if worker.alive and worker.model:
                worker.die(-9)
        for _ in range(20):
            device.run(0.1)
            assert len(device.serving + device.falling_back) <= 1


def test_without_a_declared_fallback_nothing_is_invented(world, device):
    goal = committed(device, world)
    world.faults[goal.manifest] = Refusal.NO_MEMORY
    device.workers[-1].die(-9)
    device.run(30)
    assert (device.serving, device.falling_back) == ([], [])


def test_the_fallback_answers_while_a_rotten_champion_is_fetched_anew(world, device):
    goal = committed(device, world, fallbacks=FALLBACKS)
    model = device.store.bundle(goal.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    device.cut()
    device.linked = False
    device.boot()
    device.run(20)
    assert (device.serving, device.falling_back) == ([], ["1"])
    device.link.start()
    device.run(60)
    assert (device.step, device.serving, device.falling_back) == ("committed", ["1"], [])


def test_a_fallback_that_dies_is_replaced_with_the_champions_next_failure(world, device):
    goal = committed(device, world, fallbacks=FALLBACKS)
    world.faults[goal.manifest] = Refusal.NO_MEMORY
    device.workers[-1].die(-9)
    device.run(5)
    next(worker for worker in device.workers if worker.accepting).die(-9)
    device.run(120)
    assert device.falling_back == ["1"]


def test_an_update_takes_over_from_a_fallback(world, device):
    first = committed(device, world, fallbacks=FALLBACKS)
    world.faults[first.manifest] = Refusal.NO_MEMORY
    device.workers[-1].die(-9)
    device.run(5)
    world.direct(world.release("2", fallbacks=FALLBACKS))
    device.run(60)
    assert (device.step, device.serving, device.falling_back) == ("committed", ["2"], [])


def test_a_slot_that_left_the_directive_runs_on_and_is_reported_as_such(world, device):
    goal = committed(device, world)
    assert device.report().assigned
    world.direct(None, slots={"other": device.supervisor.goals.directive.slots["main"]})
    device.run(5)
    assert device.serving.count("1") >= 1
    assert not device.report().assigned
    assert device.report().running.manifest == goal.manifest
