"""Swap permits: every condition is passed in turn and says what it waits for."""

import datetime as dt
import socket
import threading

import pytest

from muster_agent.update.interlocks import DeviceConditions, put_hold, remove_hold
from muster_protocol.wire import maintenance, messages, topics
from muster_protocol.wire.directive import Slot
from muster_protocol.wire.maintenance import MaintenanceWindow
from support.agent_world import DEVICE, SLOT, Device, World

UTC = dt.UTC


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path)
    made.boot(time_zone=UTC)
    yield made
    if made.supervisor is not None:
        made.cut()


def waiting(device):
    return device.report().update.waiting_for


def committed(device, world):
    goal = world.release("1")
    world.direct(goal)
    device.run(60)
    assert device.step == "committed"
    return goal


def direct(world, goal, **fields):
    world.direct(goal, slots={SLOT: Slot(goal, **fields)})


# The hub's permit


def test_a_swap_waits_for_the_hubs_permit_and_begins_when_it_is_given(world, device):
    committed(device, world)
    goal = world.release("2")
    direct(world, goal, swap="grant")
    device.run(10)
    assert (device.step, device.serving) == ("staged", ["1"])
    assert "permit" in device.reports[-1].slots[SLOT].update.waiting_for
    (asked,) = device.asked
    assert (asked.slot, asked.manifest, asked.generation) == (SLOT, goal.manifest, 2)
    device.grant(valid=30)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert len(device.asked) == 1


def test_a_refused_permit_is_reported_in_the_hubs_words_and_asked_for_again_with_a_new_nonce(
    world, device
):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(10)
    device.grant(retry=20, reason="2 of 2 places of line 3 are taken")
    device.run(5)
    assert waiting(device).endswith("2 of 2 places of line 3 are taken")
    assert len(device.asked) == 1
    device.run(25)
    first, second = device.asked
    assert first.nonce != second.nonce
    assert device.serving == ["1"]


def test_an_answer_to_an_older_question_or_another_slot_counts_for_nothing(world, device):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(100)
    assert len(device.asked) >= 3
    old, new = device.asked[0], device.asked[-1]
    for nonce, slot in ((old.nonce, SLOT), (new.nonce, "other"), (b"x" * 16, SLOT)):
        grant = messages.Grant(nonce=nonce, slot=slot, given=True, valid_seconds=600)
        world.broker.publish(topics.down(DEVICE, "grant"), messages.encode(grant))
        device.run(1)
    assert (device.step, device.serving) == ("staged", ["1"])


def test_an_unanswered_request_is_made_again_at_growing_intervals(world, device):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(300)
    assert 5 <= len(device.asked) <= 10
    assert len({asked.nonce for asked in device.asked}) == len(device.asked)


def test_a_permit_lapses_on_the_monotonic_clock_from_the_moment_it_was_asked_for(world, device):
    committed(device, world)
    device.forbidden = "the machine's interlock: press closed"
    direct(world, world.release("2"), swap="grant")
    device.run(10)
    assert device.asked == []  # What is on the device comes first: a place is not held in vain.
    device.forbidden = ""
    device.run(5)
    device.forbidden = "the machine's interlock: press closed"
    device.grant(valid=20)
    device.run(40)
    assert (device.step, waiting(device)) == ("staged", device.forbidden)
    world.clock.wall_offset -= 1_000_000  # A wall clock that jumps back revives nothing.
    device.forbidden = ""
    device.run(5)
    assert (device.step, len(device.asked)) == ("staged", 2)


def test_a_restart_forgets_the_permit_and_asks_again(world, device):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(10)
    device.forbidden = "the machine's interlock"
    device.grant(valid=600)
    device.run(5)
    device.cut()
    device.forbidden = ""
    device.boot(time_zone=UTC)
    device.run(10)
    assert (device.step, len(device.asked)) == ("staged", 2)
    device.grant(valid=30)
    device.run(60)
    assert device.serving == ["2"]


def test_a_device_that_lost_its_link_asks_as_soon_as_it_is_back(world, device):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(10)
    world.broker.cut(DEVICE)
    device.run(100)
    before = len(device.asked)
    world.broker.restore(DEVICE)
    device.run(10)
    assert len(device.asked) == before + 1


def test_a_permit_for_one_release_does_not_count_for_the_next(world, device):
    committed(device, world)
    direct(world, world.release("2"), swap="grant")
    device.run(10)
    device.forbidden = "busy"
    device.grant(valid=600)
    device.run(3)
    third = world.release("3")
    direct(world, third, swap="grant")
    device.forbidden = ""
    device.run(10)
    assert (device.step, device.serving) == ("staged", ["1"])
    assert device.asked[-1].manifest == third.manifest


def test_repairing_what_runs_needs_no_permit(world, device):
    goal = committed(device, world)
    direct(world, goal, swap="grant")
    device.run(5)
    model = device.store.bundle(goal.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    device.cut()
    device.boot(time_zone=UTC)
    device.run(60)
    assert (device.step, device.serving, device.asked) == ("committed", ["1"], [])


# What is on the device


def test_an_operators_hold_on_the_device_stops_swaps_until_it_is_released(world, device):
    committed(device, world)
    put_hold(device.directory, None, "Ada is at the machine")
    world.direct(world.release("2"))
    device.run(60)
    assert (device.step, device.serving) == ("staged", ["1"])
    assert waiting(device) == "the operator's release: Ada is at the machine"
    put_hold(device.directory, SLOT, "")
    assert remove_hold(device.directory, None)
    device.run(30)
    assert (device.step, waiting(device)) == ("staged", "the operator's release")
    assert remove_hold(device.directory, SLOT)
    assert not remove_hold(device.directory, SLOT)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_machine_that_forbids_while_the_candidate_starts_keeps_the_champion(world, device):
    committed(device, world)
    device.forbidden = "the machine's interlock: in cycle"
    world.direct(world.release("2"))
    device.run(30)
    assert device.step == "staged"
    device.forbidden = ""
    while device.step == "staged":
        device.run(0.1)
    device.forbidden = "the machine's interlock: in cycle"
    device.run(30)
    if device.step == "starting":  # The candidate was not ready yet when the machine forbade.
        assert (device.serving, waiting(device)) == (["1"], device.forbidden)
    device.forbidden = ""
    device.run(60)
    assert device.serving == ["2"]


def test_a_rollback_never_waits_for_anything(world, device):
    committed(device, world)
    bad = world.release("2")
    world.direct(bad)
    device.run(15)
    assert device.step == "probation"
    device.forbidden = "the machine's interlock"
    put_hold(device.directory, None, "")
    next(worker for worker in device.workers if worker.accepting).die()
    device.run(1)
    assert (device.step, device.serving) == ("failed", ["1"])


def test_outside_its_maintenance_window_a_device_waits_and_names_it(world, device):
    committed(device, world)
    now = dt.datetime.fromtimestamp(world.clock.wall(), UTC)
    opens = (now + dt.timedelta(minutes=10)).strftime("%H:%M")
    closes = (now + dt.timedelta(minutes=20)).strftime("%H:%M")
    direct(world, world.release("2"), maintenance=(MaintenanceWindow(opens, closes),))
    device.run(300)
    assert (device.step, device.serving) == ("staged", ["1"])
    assert waiting(device) == f"its maintenance window: {opens}-{closes}"
    device.run(420)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_device_that_does_not_know_the_time_is_in_no_maintenance_window(world, device):
    committed(device, world)
    world.clock.trusted = "unknown"
    direct(world, world.release("2"), maintenance=(MaintenanceWindow("00:00", "00:00"),))
    device.run(30)
    assert (device.step, device.serving) == ("staged", ["1"])
    assert "clock" in waiting(device)
    world.clock.trusted = "synchronised"
    device.run(60)
    assert device.serving == ["2"]


@pytest.mark.parametrize(
    ("window", "local", "inside"),
    [
        (MaintenanceWindow("08:00", "10:00"), "2026-11-23T08:00", True),
        (MaintenanceWindow("08:00", "10:00"), "2026-11-23T10:00", False),
        (MaintenanceWindow("22:00", "05:00"), "2026-11-23T23:30", True),
        (MaintenanceWindow("22:00", "05:00"), "2026-11-24T04:59", True),
        (MaintenanceWindow("22:00", "05:00"), "2026-11-24T12:00", False),
        (
            MaintenanceWindow("22:00", "05:00", ("mon",)),
            "2026-11-24T04:00",
            True,
        ),  # Began on Monday.
        (
            MaintenanceWindow("22:00", "05:00", ("mon",)),
            "2026-11-23T04:00",
            False,
        ),  # Began on Sunday.
        (MaintenanceWindow("22:00", "05:00", ("mon",)), "2026-11-24T22:00", False),
        (MaintenanceWindow("00:00", "00:00"), "2026-11-24T12:00", True),
    ],
)
def test_a_window_is_open_by_the_clock_on_the_devices_wall(window, local, inside):
    assert maintenance.is_open([window], dt.datetime.fromisoformat(local)) is inside


# Inputs as they are


@pytest.mark.parametrize(("says", "permits"), [(b"1\n", True), (b"0", False), (b"", False)])
def test_an_interlock_file_permits_only_when_it_says_one(tmp_path, says, permits):
    place = tmp_path / "may_swap"
    place.write_bytes(says)
    inputs = DeviceConditions(tmp_path, {"main": str(place)})
    assert (inputs.interlock("main") == "") is permits
    assert inputs.interlock("other") == ""


def test_an_interlock_that_is_missing_or_not_an_input_does_not_permit(tmp_path):
    inputs = DeviceConditions(tmp_path, {"main": str(tmp_path / "none"), "odd": str(tmp_path)})
    assert "missing" in inputs.interlock("main")
    assert inputs.interlock("odd")


@pytest.mark.parametrize(("says", "permits"), [(b"1", True), (b"0", False), (None, False)])
def test_an_interlock_socket_permits_only_when_it_says_one_at_once(tmp_path, says, permits):
    place = str(tmp_path / "interlock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        ended = threading.Event()

        def answer():
            connection, _ = server.accept()
            with connection:
                if says is None:
                    ended.wait(30)  # Silent: a machine that hangs does not permit.
                else:
                    connection.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            assert (DeviceConditions(tmp_path, {"main": place}).interlock("main") == "") is permits
        finally:
            ended.set()
            thread.join()
