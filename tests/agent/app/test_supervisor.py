"""The supervisor's decisions, driven through a world with its own clock, broker and workers."""

import numpy as np
import pytest

from muster_agent.worker.last_input import LastInput
from muster_protocol.wire import topics
from muster_protocol.wire.directive import Sampling
from muster_protocol.wire.errors import Refusal
from support.agent_faults import FullDisk
from support.agent_world import SLOT, Device, World


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


def committed(device, world, version="1"):
    goal = world.release(version)
    world.direct(goal)
    device.run(60)
    assert device.step == "committed", device.supervisor.runners[SLOT].row
    return goal


def test_a_signed_model_is_fetched_proved_on_probation_and_committed(world, device):
    goal = world.release("1")
    world.direct(goal)
    device.run(20)
    assert (device.step, device.serving) == ("probation", ["1"])
    device.run(40)
    assert (device.step, device.serving) == ("committed", ["1"])
    running = device.reports[-1].slots[SLOT].running
    assert (running.version, running.manifest, running.runtime) == ("1", goal.manifest, "onnx")
    assert [event.state for event in device.events_of("update")] == ["probation", "committed"]


def test_the_champion_serves_until_the_moment_the_candidate_does(world, device):
    committed(device, world)
    world.direct(world.release("2"))
    for _ in range(200):
        device.run(0.5)
        assert len(device.serving) == 1
    assert (device.step, device.serving) == ("committed", ["2"])
    assert [worker.goal.version for worker in device.workers if worker.alive] == ["2"]


@pytest.mark.parametrize(
    "refusal", [Refusal.GOLDEN_MISMATCH, Refusal.WORKER_DIED, Refusal.START_TIMEOUT]
)
def test_a_candidate_that_fails_costs_nothing_but_a_report(world, device, refusal):
    committed(device, world)
    bad = world.release("2")
    world.faults[bad.manifest] = refusal
    world.direct(bad)
    device.run(30)
    assert (device.step, device.refusal, device.serving) == ("failed", refusal, ["1"])
    (event,) = device.events_of("refused")
    assert (event.version, event.refusal, event.generation) == ("2", refusal, 2)
    update = device.reports[-1].slots[SLOT].update
    assert (update.state, update.refusal, update.version) == ("failed", refusal, "2")


def test_a_goal_that_comes_while_a_candidate_starts_ends_it_and_is_not_blamed_for_its_end(
    world, device
):
    committed(device, world)
    hanging = world.release("2")
    world.hanging.add(hanging.manifest)
    world.direct(hanging)
    device.run(10)
    assert device.step == "starting"
    old = device.workers[-1]
    goal = world.release("3")
    chunk = world.broker.retained.pop(topics.chunk(goal.manifest))
    world.direct(goal)
    device.run(1)
    assert (device.step, old.alive) == ("fetching", False)
    old.die()
    device.run(1)
    assert (device.step, device.serving) == ("fetching", ["1"])
    world.broker.publish(topics.chunk(goal.manifest), chunk, retain=True)
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["3"])


def test_a_stopping_agent_starts_no_candidate_and_goes_on_at_its_next_start(world, device):
    committed(device, world)
    goal = world.release("2")
    chunk = world.broker.retained.pop(topics.chunk(goal.manifest))
    world.direct(goal)
    device.run(5)
    assert device.step == "fetching"
    device.stop()
    world.broker.publish(topics.chunk(goal.manifest), chunk, retain=True)
    device.run(20)
    assert device.supervisor.drained
    assert not any(worker.alive for worker in device.workers)
    device.cut()
    device.boot()
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_an_agent_that_stops_during_a_probation_has_nothing_due_any_more(world, device):
    committed(device, world)
    world.direct(world.release("2"))
    device.run(20)
    assert device.step == "probation"
    device.stop()
    later = world.clock.seconds + 60
    device.supervisor.tick(later)
    assert device.supervisor.runners[SLOT].deadline() > later
    assert device.step == "probation"


def test_an_update_found_at_a_start_goes_on_once_a_full_disk_has_room_again(world, device):
    committed(device, world)
    goal = world.release("2")
    chunk = world.broker.retained.pop(topics.chunk(goal.manifest))
    world.direct(goal)
    device.run(5)
    device.cut()
    disk = FullDisk(1, steps=1_000_000)
    device.boot(disk)
    device.run(5)
    runner = device.supervisor.runners[SLOT]
    assert (device.step, device.serving) == ("fetching", ["1"])
    assert "the disk" in runner.waiting_for
    disk.until = 0
    world.broker.publish(topics.chunk(goal.manifest), chunk, retain=True)
    device.run(90)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_refused_manifest_stays_refused_whatever_generation_names_it(world, device):
    committed(device, world)
    bad = world.release("2")
    world.faults[bad.manifest] = Refusal.GOLDEN_MISMATCH
    for _ in range(3):
        world.direct(bad)
        device.run(30)
    assert [worker.goal.version for worker in device.workers].count("2") == 1
    world.direct(world.release("3"))
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["3"])


def test_a_model_that_errs_on_probation_is_rolled_back_at_once(world, device):
    committed(device, world)
    bad = world.release("2")
    world.erring.add(bad.manifest)
    world.direct(bad)
    device.run(25)
    assert (device.step, device.refusal) == ("failed", Refusal.PROBATION_ERRORS)
    assert device.serving == ["1"]
    assert [event.refusal for event in device.events_of("rolled_back")] == [
        Refusal.PROBATION_ERRORS
    ]


def test_a_model_that_dies_on_probation_is_rolled_back(world, device):
    committed(device, world)
    world.direct(world.release("2"))
    device.run(20)
    assert device.step == "probation"
    next(worker for worker in device.workers if worker.accepting).die()
    device.run(1)
    assert (device.refusal, device.serving) == (Refusal.PROBATION_CRASHED, ["1"])


def test_a_champion_that_dies_is_started_again_and_told_of(world, device):
    committed(device, world)
    device.workers[-1].die()
    device.run(2)
    assert device.serving == ["1"]
    assert len(device.events_of("worker_died")) == 1


def test_what_crashed_a_model_is_kept_and_told_of_as_long_as_the_directive_says_so(world, device):
    goal = committed(device, world)
    assert device.crash_inputs.begin("early") is None
    world.direct(goal, sampling=Sampling(keep_crash_input=True))
    device.run(2)
    worker = device.workers[-1]
    with LastInput(device.crash_inputs.begin(worker.id)) as last:
        last.begin({"x": np.ones(4, np.float32)})
    worker.die()
    device.run(2)
    assert device.serving == ["1"]
    (note,) = device.events_of("note")
    assert f"{worker.id}: the input it crashed on is kept in" in note.detail
    kept = device.directory / "crashes" / f"{worker.id}.npz"
    assert kept.exists()
    world.direct(goal)
    device.run(2)
    assert not kept.exists()


def test_a_manifest_the_release_keys_did_not_sign_is_never_fetched(world, device):
    committed(device, world)
    world.direct(world.release("2", signed=False))
    asked = set()
    for _ in range(40):
        device.run(1)
        asked |= set(device.link.filters)
    assert (device.refusal, device.serving) == (Refusal.UNSIGNED_MANIFEST, ["1"])
    assert not any(topics.parse_chunk(topic) for topic in asked - set(device.link.filters))
    assert [event.refusal for event in device.events_of("refused")] == [Refusal.UNSIGNED_MANIFEST]


def test_a_timestamp_that_an_older_one_has_overtaken_is_asked_for_again(world, device):
    committed(device, world)
    timestamp = topics.tuf("timestamp.json")
    old = world.broker.retained[timestamp]
    world.direct(world.release("2"))
    newest = world.broker.retained[timestamp]
    world.broker.publish(timestamp, old, retain=True)  # This is the last the device hears ...
    device.run(2)
    world.broker.retained[timestamp] = newest  # ... though the broker holds another.
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])
    assert not device.events_of("refused")


def test_a_directive_that_overtakes_its_metadata_waits_for_them(world, device):
    committed(device, world)
    held = dict(world.broker.retained)
    goal = world.release("2")
    late = {topic: data for topic, data in world.broker.retained.items() if topics.parse_tuf(topic)}
    for topic in late:
        if topic in held:
            world.broker.publish(topic, held[topic], retain=True)
        else:
            del world.broker.retained[topic]
    world.direct(goal)
    device.run(5)
    assert device.reports[-1].slots[SLOT].update.waiting_for
    for topic, data in late.items():
        world.broker.publish(topic, data, retain=True)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_device_boots_and_serves_with_no_link_and_a_clock_that_believes_it_is_1970(world, device):
    committed(device, world)
    device.cut()
    device.linked = False
    world.clock.wall_offset, world.clock.trusted = 0.0, "unknown"
    heard = len(device.reports)
    device.boot()
    device.run(5)
    assert device.serving == ["1"]
    assert not device.supervisor.connected
    assert len(device.reports) == heard


def test_a_directive_for_another_device_is_refused_and_named(world, device):
    committed(device, world)
    world.direct(world.release("2"), device="dev-2")
    device.run(30)
    assert device.serving == ["1"]
    assert device.reports[-1].refusal == Refusal.WRONG_DEVICE
    assert [event.refusal for event in device.events_of("refused")] == [Refusal.WRONG_DEVICE]


def test_an_empty_directive_changes_nothing_that_runs(world, device):
    committed(device, world)
    world.direct(None)
    device.run(30)
    assert device.serving == ["1"]


def test_one_altered_chunk_heals_from_the_second_source_and_is_told_of(world, device):
    goal = world.release("1")
    altered = next(t for t, data in world.broker.retained.items() if len(data) == 128 * 1024)
    world.broker.publish(altered, b"altered", retain=True)
    world.direct(goal, sources=1)
    device.run(60)
    assert device.step == "committed"
    assert [event.values for event in device.events_of("fetch_healed")] == [{"chunks": 1.0}]


def test_a_chunk_altered_at_every_source_is_refused_by_that_name(world, device):
    committed(device, world)
    before = set(world.broker.retained)
    goal = world.release("2")
    name = next(
        t
        for t in world.broker.retained
        if t not in before and len(world.broker.retained[t]) == 128 * 1024
    )
    world.broker.publish(name, b"altered", retain=True)
    world.http[topics.parse_chunk(name)] = b"altered too"
    world.direct(goal, sources=1)
    device.run(40)
    assert (device.step, device.refusal) == ("failed", Refusal.CHUNK_ALTERED)
    assert device.serving == ["1"]


def test_missing_chunks_come_from_the_http_source_when_the_broker_is_silent(world, device):
    goal = world.release("1", size=1_000_000)
    for topic in [t for t in world.broker.retained if topics.parse_chunk(t)]:
        del world.broker.retained[topic]
    world.direct(goal, sources=1)
    device.run(90)
    assert device.step == "committed"


def test_a_full_disk_waits_for_space_and_says_so(world, device):
    committed(device, world)
    device.cut()
    device.boot(free_bytes=1000)
    world.direct(world.release("2"))
    device.run(30)
    assert (device.step, device.refusal, device.serving) == ("failed", Refusal.NO_SPACE, ["1"])
    device.cut()
    device.boot()
    device.run(200)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_going_back_to_the_champion_during_probation_restores_it(world, device):
    first = committed(device, world)
    world.direct(world.release("2"))
    device.run(20)
    assert device.serving == ["2"]
    world.direct(first)
    device.run(10)
    assert (device.step, device.serving) == ("committed", ["1"])


def test_the_report_names_the_adopted_generation_and_the_trusted_versions(world, device):
    committed(device, world)
    report = device.reports[-1]
    assert (report.epoch, report.generation) == (1, 1)
    assert report.trust.versions["timestamp"] >= 2


def test_what_is_not_needed_any_more_leaves_the_disk(world, device):
    first = committed(device, world, "1")
    second = committed(device, world, "2")
    committed(device, world, "3")
    device.run(30)
    bundles = {path.name for path in (device.directory / "store" / "bundles").iterdir()}
    assert first.manifest not in bundles
    assert second.manifest in bundles  # A late demotion goes back to it.
    assert len(bundles) == 2


def test_a_champion_that_rots_on_the_disk_is_fetched_anew(world, device):
    goal = committed(device, world)
    model = device.store.bundle(goal.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    device.cut()
    device.boot()
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["1"])
    assert list(device.store.problems()) == []
    assert [event.refusal for event in device.events_of("worker_died")] == [Refusal.FILE_MISMATCH]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_rollback_to_a_champion_that_has_rotted_fetches_it_anew(world, device, restarted):
    first = committed(device, world)
    world.direct(world.release("2"))
    device.run(20)
    assert (device.step, device.serving) == ("probation", ["2"])
    model = device.store.bundle(first.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    for worker in [worker for worker in device.workers if worker.alive]:
        worker.die()
    device.run(0.05)
    assert (device.step, device.serving) == ("rolling_back", [])
    if restarted:
        device.cut()
        device.boot()
    world.direct(first)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["1"])
    assert [event.refusal for event in device.events_of("rolled_back")] == [
        Refusal.PROBATION_CRASHED
    ]
    committed(device, world, "3")


def test_a_refused_model_keeps_no_rotten_champion_from_being_fetched_anew(world, device):
    first = committed(device, world)
    bad = world.release("2")
    world.direct(bad)
    device.run(20)
    world.erring.add(bad.manifest)
    model = device.store.bundle(first.manifest) / "model.onnx"
    model.write_bytes(b"rot" + model.read_bytes()[3:])
    next(worker for worker in device.workers if worker.goal == first).die()
    device.run(200)
    assert (device.step, device.serving) == ("failed", ["1"])
    assert len(device.events_of("rolled_back")) == 2  # Once more beside the repaired champion.


def test_with_a_database_that_only_reads_the_champion_serves_and_nothing_new_is_taken(
    world, device
):
    committed(device, world)
    device.cut()
    (device.directory / "state.db-wal").unlink(missing_ok=True)
    (device.directory / "state.db-wal").mkdir()
    device.boot()
    world.direct(world.release("2"))
    device.run(30)
    assert device.serving == ["1"]
    assert "state.db" in device.reports[-1].refusal_detail
    assert device.reports[-1].generation == 1


def test_a_champion_that_keeps_dying_is_told_of_at_growing_intervals(world, device):
    committed(device, world)
    for _ in range(100):
        device.run(5)
        for worker in device.workers:
            if worker.alive:
                worker.inferences = 0
                worker.die()
    started = [worker.goal.version for worker in device.workers]
    assert len(started) < 40
    assert len(device.events_of("worker_died")) <= 7


def test_a_directive_that_nothing_can_judge_is_reported_once_and_taken_when_metadata_come(
    world, device
):
    goal = world.release("1")
    for file in world.repository.files:
        world.broker.publish(topics.tuf(file), b"", retain=True)
    world.direct(goal)
    device.run(300)
    (refused,) = device.events_of("refused")
    assert refused.refusal == Refusal.METADATA_MISSING
    assert device.supervisor.deadline(world.clock.seconds) > world.clock.seconds
    world.publish_catalogue()
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["1"])
