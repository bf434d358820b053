"""A new version that answers otherwise than it promised goes back, with the evidence."""

import numpy as np
import pytest

from muster_protocol.signals import baseline, binning, features
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.messages import Stamp
from support.agent_world import SLOT, Device, World

RNG = np.random.default_rng(3)
AT = Stamp(b"boot", 1.0, 2.0, "synchronised")
TRAINED = baseline.fit(
    {"p": RNG.normal(size=(4000, 1)).astype(np.float32)}, features.elements("p", ["score"])
)


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


def answers(device, goal, shift):
    """The model's last window, as its fold would have counted it."""
    signs = device.folds.signs(SLOT, goal)
    signs.watch(TRAINED, Rule(window_seconds=10.0), {"p"})
    values = RNG.normal(size=(1000, 1)).astype(np.float32) + np.float32(shift)
    counts = binning.count(TRAINED, {"p": values})
    tally = Tally(inferences=1000)
    signs.feed(Summary(goal.model, goal.version, goal.manifest, AT, AT, counts=tally,
                       features=counts))  # fmt: skip


def second_on_probation(world, device):
    first = world.release("1")
    world.direct(first)
    device.run(60)
    second = world.release("2")
    world.direct(second)
    device.run(15)
    assert (device.step, device.serving) == ("probation", ["2"])
    return first, second


def test_a_version_whose_answers_moved_is_rolled_back_with_the_evidence(world, device):
    first, second = second_on_probation(world, device)
    answers(device, first, 0.0)
    answers(device, second, 3.0)
    device.run(10)
    assert (device.refusal, device.serving) == (Refusal.PROBATION_OUTPUTS, ["1"])
    (event,) = device.events_of("rolled_back")
    assert "score: answers moved by" in event.detail


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (3.0, 3.0)])
def test_a_version_that_answers_as_the_one_before_is_committed(world, device, before, after):
    first, second = second_on_probation(world, device)
    answers(device, first, before)
    answers(device, second, after)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
