"""A challenger beside a serving model: what goes first, what ends it, and what is told of it."""

import pytest

from muster_agent.challenger.challenger import SURE_SECONDS
from muster_agent.worker.events import Exited
from muster_protocol.wire.directive import Slot
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX
from muster_protocol.wire.manifest import Build
from support.agent_faults import PowerCut
from support.agent_world import SLOT, Device, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    """One on which version 1 is committed."""
    device = Device(world, tmp_path)
    device.boot()
    world.champion = world.release("1")
    world.direct(world.champion)
    device.run(60)
    assert shown(device).update.state == "committed"
    return device


def shown(device):
    return device.reports[-1].slots[SLOT]


def challenge(world, goal, **fields):
    world.direct(world.champion, slots={SLOT: Slot(world.champion, challenger=goal)}, **fields)


def alive(device):
    return [challenger for challenger in device.challengers if challenger.alive]


def test_a_challenger_is_fetched_and_started_and_the_champion_goes_on_serving(world, device):
    goal = world.release("2")
    champion = device.workers[-1]
    challenge(world, goal)
    device.run(90)
    (worker,) = alive(device)
    assert (worker.goal, worker.accepting) == (goal, False)
    assert champion.accepting
    report = shown(device)
    assert report.running.version == "1"
    assert report.challenger.state == "comparing"
    assert (report.challenger.version, report.challenger.manifest) == ("2", goal.manifest)
    assert device.store.bundle(goal.manifest) is not None


def test_a_challenger_that_the_directive_drops_ends_and_its_bundle_is_swept(world, device):
    goal = world.release("2")
    challenge(world, goal)
    device.run(60)
    world.direct(world.champion)
    device.run(60)
    assert alive(device) == []
    assert shown(device).challenger is None
    assert device.store.bundle(goal.manifest) is None
    assert device.workers[-1].accepting


def test_after_a_restart_the_challenger_is_started_again_without_being_fetched(world, device):
    goal = world.release("2")
    challenge(world, goal)
    device.run(60)
    device.cut()
    device.linked = False
    device.boot()
    device.run(60)
    assert [item.goal for item in alive(device)] == [goal]


def test_a_challenger_whose_copy_has_rotted_is_fetched_anew(world, device):
    goal = world.release("2")
    challenge(world, goal)
    device.run(90)
    assert shown(device).challenger.state == "comparing"
    device.cut()
    model = device.store.bundle(goal.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    device.boot()
    device.run(90)
    assert shown(device).challenger.state == "comparing"
    assert list(device.store.problems()) == []


def test_an_unsigned_challenger_is_never_fetched(world, device):
    goal = world.release("2", signed=False)
    challenge(world, goal)
    device.run(60)
    assert device.challengers == []
    report = shown(device).challenger
    assert (report.state, report.refusal) == ("failed", Refusal.UNSIGNED_MANIFEST)
    assert not device.store.has(goal.manifest)


def test_a_challenger_named_before_it_is_signed_is_taken_as_soon_as_it_is(world, device):
    goal = world.release("2", signed=False)
    challenge(world, goal)
    device.run(10)
    assert device.challengers == []
    world.repository.release("digits", "2", world.http[goal.manifest])
    world.publish_catalogue()
    device.run(20)
    assert [item.goal for item in alive(device)] == [goal]


def test_a_challenger_that_fails_its_golden_vectors_stays_refused_and_harms_nobody(world, device):
    goal = world.release("2")
    world.faults[goal.manifest] = Refusal.GOLDEN_MISMATCH
    challenge(world, goal)
    device.run(3600)
    assert len(device.challengers) == 1
    report = shown(device)
    assert (report.challenger.state, report.challenger.refusal) == ("failed", "golden_mismatch")
    assert (report.health, report.update.state) == ("ok", "committed")


def test_a_challenger_that_crashes_again_and_again_is_given_up(world, device):
    challenge(world, world.release("2"))
    device.run(60)
    while alive(device):
        device.challengers[-1].die()
        device.run(500)
    assert len(device.challengers) == 3
    assert shown(device).challenger.refusal == "worker_died"
    assert "killed by signal 11" in shown(device).challenger.detail
    assert device.workers[-1].accepting


def lived(device, seconds):
    """Whether the device stayed up so long."""
    try:
        device.boot()
        device.run(seconds)
    except PowerCut:
        device.cut()
        return False
    return True


def test_a_challenger_that_takes_the_whole_device_down_is_given_up(world, device):
    deadly = world.release("2")
    world.killing.add(deadly.manifest)
    challenge(world, deadly)
    with pytest.raises(PowerCut):
        device.run(90)
    device.cut()
    deaths = 1
    while not lived(device, 90):
        deaths += 1
        assert deaths <= JOURNAL_RESUMES_MAX + 1
    report = shown(device)
    assert (report.challenger.state, report.challenger.refusal) == ("failed", "resume_limit")
    assert (report.health, report.update.state) == ("ok", "committed")
    device.cut()
    assert lived(device, 600), "and stays given up"


def test_a_challenger_that_was_given_up_is_started_again_once_it_is_asked_for_anew(world, device):
    deadly = world.release("2")
    world.killing.add(deadly.manifest)
    challenge(world, deadly)
    with pytest.raises(PowerCut):
        device.run(90)
    device.cut()
    while not lived(device, 90):
        pass
    world.killing.clear()
    world.direct(world.champion)
    device.run(30)
    challenge(world, deadly)
    device.run(90)
    assert shown(device).challenger.state == "comparing"


def test_power_cuts_while_a_challenger_compares_never_give_it_up(world, device):
    challenge(world, world.release("2"))
    device.run(90)
    for _ in range(JOURNAL_RESUMES_MAX + 4):
        assert shown(device).challenger.state == "comparing"
        device.cut()
        device.boot()
        device.run(SURE_SECONDS + 30)
    assert shown(device).challenger.state == "comparing"


def test_a_challenger_makes_way_for_an_update_and_is_held_against_the_new_champion(world, device):
    goal = world.release("2")
    challenge(world, goal)
    device.run(60)
    world.champion = world.release("3")
    challenge(world, goal)
    device.run(10)
    assert shown(device).update.state == "probation"
    assert alive(device) == []
    assert shown(device).challenger.waiting_for == "the slot's own update"
    device.run(120)
    assert shown(device).running.version == "3"
    assert [item.goal for item in alive(device)] == [goal]


def test_an_updates_download_goes_before_a_challengers(world, device):
    device.linked = True
    goal = world.release("2", size=3_000_000)
    challenge(world, goal)
    device.run(0.5)
    world.champion = world.release("3")
    challenge(world, goal)
    device.run(90)
    assert shown(device).running.version == "3"
    device.run(120)
    assert shown(device).challenger.state == "comparing"


def test_a_champion_worker_that_is_replaced_is_followed(world, device):
    challenge(world, world.release("2"))
    device.run(60)
    before = alive(device)
    device.workers[-1].die()
    device.run(60)
    after = alive(device)
    assert len(after) == len(before) == 1
    assert after != before


def build(size):
    return (Build("onnx", "model.onnx", size << 20),)


def test_where_memory_is_short_a_challenger_waits_and_says_so(world, device):
    device.memory_bytes = 100 << 20
    goal = world.release("2", builds=build(200))
    challenge(world, goal)
    device.run(60)
    assert device.challengers == []
    report = shown(device).challenger
    assert report.state == "waiting"
    assert "99 MiB of memory are free" in report.waiting_for
    assert "digits 2 may take 200" in report.waiting_for
    device.memory_bytes = 1 << 30
    device.run(60)
    assert len(alive(device)) == 1


def test_a_challenger_never_keeps_the_memory_that_its_slots_update_needs(world, device):
    device.memory_bytes = 150 << 20
    challenge(world, world.release("2", builds=build(90)))
    device.run(60)
    assert len(alive(device)) == 1
    world.champion = world.release("3", builds=build(90))
    challenge(world, device.challengers[0].goal)
    device.run(300)
    assert shown(device).running.version == "3"
    assert shown(device).update.refusal is None
    assert device.memory_used_most <= device.memory_bytes
    assert shown(device).challenger.state == "waiting"


def test_a_challenger_that_becomes_the_champion_is_watched_no_more(world, device):
    goal = world.release("2")
    challenge(world, goal)
    device.run(60)
    world.champion = goal
    challenge(world, goal)
    device.run(120)
    assert shown(device).running.version == "2"
    assert alive(device) == []


def test_a_stopping_agent_ends_its_challenger_too(world, device):
    challenge(world, world.release("2"))
    device.run(60)
    device.stop()
    assert alive(device) == []
    assert device.supervisor.drained


def test_the_end_of_a_worker_that_nobody_knows_any_more_is_ignored(world, device):
    challenge(world, world.release("2"))
    device.run(60)
    device.inbox.append(Exited("main-99", -9))
    device.run(5)
    assert len(alive(device)) == 1
