"""Events of an update say how long its steps took, and which trace asked for it."""

from muster_agent.update.table import State
from muster_agent.update.timing import StepTimes
from muster_protocol.wire.directive import Slot
from support.agent_world import SLOT, Device, World

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_steps_are_added_up_between_two_events_and_rest_counts_for_nothing():
    times = StepTimes()
    assert times.left(State.IDLE, 10.0, said=False) == {}
    assert times.left(State.FETCHING, 14.0, said=False) == {}
    assert times.left(State.VERIFYING, 15.0, said=False) == {}
    assert times.left(State.STARTING, 17.5, said=True) == {
        "fetching_seconds": 4.0, "verifying_seconds": 1.0, "starting_seconds": 2.5,
    }  # fmt: skip
    assert times.left(State.PROBATION, 20.0, said=True) == {"probation_seconds": 2.5}
    assert times.left(State.COMMITTED, 99.0, said=False) == {}
    assert times.left(State.FETCHING, 100.0, said=True) == {"fetching_seconds": 1.0}


def test_a_step_that_began_before_the_agent_did_is_left_out():
    assert StepTimes().left(State.PROBATION, 5.0, said=True) == {}


def test_an_update_names_the_directive_s_trace_and_how_long_each_step_took(tmp_path):
    device = Device(World(), tmp_path)
    device.boot()
    goal = device.world.release("1")
    device.world.direct(None, slots={SLOT: Slot(goal, traceparent=TRACE)})
    device.run(120)
    assert device.step == "committed"
    probation, committed = device.events_of("update")
    assert {event.trace for event in (probation, committed)} == {TRACE}
    assert set(probation.values) >= {"fetching_seconds", "verifying_seconds", "starting_seconds"}
    assert committed.values.keys() == {"probation_seconds"}
    assert 0 < committed.values["probation_seconds"] < 120


def test_without_a_trace_an_event_names_none(tmp_path):
    device = Device(World(), tmp_path)
    device.boot()
    device.world.direct(device.world.release("1"))
    device.run(120)
    assert {event.trace for event in device.events_of("update")} == {""}
