"""Late demotion: a committed version that goes bad gives way to the one before it, once."""

import shutil

import pytest

from muster_agent.update.demotion import CRASHES, WINDOW_INFERENCES, Errors, crash_loop
from muster_agent.update.workers import Counts
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import (
    Build,
    Demotion,
    File,
    Golden,
    Manifest,
    Tensor,
    target_path,
)
from support.agent_faults import Fuse, PowerCut
from support.agent_world import SLOT, Device, World


def plain_manifest(**fields):
    item = (Tensor("x", "FP32", (-1, 1)),)
    return Manifest(
        model="m", version="1", created=0, inputs=item, outputs=item,
        builds=(Build("onnx", "m.onnx", 1 << 20),), files=(File("m.onnx", 1, "0" * 64),),
        golden=Golden("m.onnx"), **fields,
    )  # fmt: skip


@pytest.fixture
def world():
    return World()


def begin(world, device, *versions, **fields):
    """Each committed after the other; the goal of the last."""
    device.boot()
    for version in versions:
        goal = world.release(version, size=1000, **fields)
        world.direct(goal)
        device.run(60)
        assert (device.step, device.serving) == ("committed", [version])
    return goal


@pytest.fixture
def device(world, tmp_path):
    made = Device(world, tmp_path / "device")
    yield made
    if made.supervisor is not None:
        made.cut()


def crash(device, times, seconds=40.0):
    """The model that serves dies, as soon as it serves again."""
    for _ in range(times):
        for _ in range(int(seconds)):
            device.run(1)
            if device.serving:
                break
        (running,) = (worker for worker in device.workers if worker.accepting and worker.model)
        running.die()
        device.run(0.1)


def test_a_crash_loop_after_probation_gives_way_to_the_version_before(world, device):
    bad = begin(world, device, "1", "2")
    crash(device, CRASHES)
    device.run(5)
    assert (device.step, device.refusal, device.serving) == ("failed", Refusal.CRASH_LOOP, ["1"])
    assert device.report().running.version == "1"
    assert f"died {CRASHES} times in a row" in device.report().update.detail
    (rolled_back,) = device.events_of("rolled_back")
    assert (rolled_back.manifest, rolled_back.refusal) == (bad.manifest, Refusal.CRASH_LOOP)
    link = device.directory / "current" / SLOT
    assert link.resolve().name == device.state.pointers()[SLOT].goal.manifest
    world.direct(bad)
    device.run(120)
    assert (device.step, device.serving) == ("failed", ["1"])


def test_crashes_between_which_it_serves_for_long_are_no_loop(world, device):
    begin(world, device, "1", "2")
    for _ in range(2 * CRASHES):
        device.run(90)
        crash(device, 1)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_it_happens_once_not_to_and_fro(world, device):
    begin(world, device, "1", "2")
    crash(device, CRASHES)
    device.run(5)
    crash(device, 3 * CRASHES, 120.0)
    device.run(120)
    assert (device.step, device.serving) == ("failed", ["1"])
    assert len(device.events_of("rolled_back")) == 1


def test_the_next_goal_is_followed_and_has_its_own_version_before(world, device):
    begin(world, device, "1", "2")
    crash(device, CRASHES)
    device.run(5)
    third = world.release("3", size=1000)
    world.direct(third)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["3"])
    crash(device, CRASHES)
    device.run(5)
    assert (device.step, device.serving) == ("failed", ["1"])


def test_the_first_version_ever_is_started_again_and_again(world, device):
    begin(world, device, "1")
    crash(device, 2 * CRASHES, 120.0)
    device.run(120)
    assert (device.step, device.serving) == ("committed", ["1"])


def test_a_manifest_may_forbid_it(world, device):
    begin(world, device, "1", "2", demotion=Demotion(crash_loop=False))
    crash(device, 2 * CRASHES, 120.0)
    device.run(120)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_errors_that_explode_after_probation_give_way_without_a_moment_unserved(world, device):
    bad = begin(world, device, "1", "2", demotion=Demotion(error_rate_max=0.5))
    device.run(120)
    assert device.step == "committed"
    world.erring.add(bad.manifest)
    for _ in range(120):
        device.run(1)
        assert len(device.serving) == 1
    assert (device.step, device.refusal, device.serving) == ("failed", Refusal.LATE_ERRORS, ["1"])
    assert "of 200 inferences failed" in device.report().update.detail


def test_what_is_no_longer_in_the_catalogue_does_not_come_back(world, device):
    first = world.release("1", size=1000)
    world.direct(first)
    device.boot()
    device.run(60)
    world.direct(world.release("2", size=1000))
    device.run(60)
    role = world.repository.roles["model-digits"].signed
    del role.targets[target_path("digits", "1")]
    world.repository.publish("model-digits")
    world.publish_catalogue()
    device.run(60)
    crash(device, CRASHES)
    device.run(60)
    assert (device.step, device.serving) == ("committed", ["2"])


def test_a_power_cut_at_any_step_of_it_ends_with_the_version_before(world, device, tmp_path):
    begin(world, device, "1", "2")
    device.cut()

    def again(name):
        shutil.copytree(device.directory, tmp_path / name, symlinks=True)
        return Device(world, tmp_path / name)

    def live(made, fuse):
        made.boot(fuse)
        made.run(1)
        crash(made, CRASHES)
        made.run(20)

    whole, fuse = again("whole"), Fuse()
    live(whole, fuse)
    assert (whole.step, whole.serving) == ("failed", ["1"])
    whole.cut()
    for step in range(1, fuse.steps + 1):
        made = again(str(step))
        try:
            live(made, Fuse(step))
        except PowerCut:
            made.cut()
        made.boot()
        made.run(0.5)
        assert made.serving in (["1"], ["2"]), step
        if made.serving == ["2"]:
            crash(made, CRASHES)
        made.run(20)
        assert (made.step, made.serving, made.refusal) == ("failed", ["1"], "crash_loop"), step
        assert len(made.events_of("rolled_back")) == 1, step
        link = made.directory / "current" / SLOT
        assert link.resolve().name == made.state.pointers()[SLOT].goal.manifest, step
        made.cut()
        shutil.rmtree(made.directory)


@pytest.mark.parametrize(
    ("refusal", "counts"),
    [
        (Refusal.WORKER_DIED, True), (Refusal.LOAD_FAILED, True), (Refusal.GOLDEN_MISMATCH, True),
        (Refusal.NO_MEMORY, False), (Refusal.FILE_MISMATCH, False), (Refusal.NO_RUNTIME, False),
    ],
)  # fmt: skip
def test_only_what_the_model_itself_does_makes_a_crash_loop(refusal, counts):
    assert (crash_loop(plain_manifest(), refusal, "why", CRASHES) is not None) == counts
    assert crash_loop(plain_manifest(), refusal, "why", CRASHES - 1) is None


def test_error_rates_are_judged_over_two_windows_and_a_new_worker_counts_anew():
    errors, listing = Errors(), plain_manifest(demotion=Demotion(error_rate_max=0.1))
    w = WINDOW_INFERENCES
    assert errors.look(listing, Counts(w - 1, w - 1)) is None
    assert errors.look(listing, Counts(w, w)) is None
    assert errors.look(listing, Counts(2 * w, w)) is None
    assert errors.look(listing, Counts(3 * w, 2 * w)) is None
    assert errors.look(listing, Counts(5, 0)) is None
    refusal, detail = errors.look(listing, Counts(w, w // 2))
    assert refusal is Refusal.LATE_ERRORS
    assert f"{w} of {w} and {w // 2} of {w}" in detail
    assert Errors().look(plain_manifest(), Counts(w, w)) is None


class Tight(Device):
    """There is room for an update only once the version before has left the disk."""

    before = ""

    @property
    def free_bytes(self):
        gone = not self.before or self.store.bundle(self.before) is None
        return 1 << 40 if gone else 1000

    @free_bytes.setter
    def free_bytes(self, _):
        pass


def test_the_version_before_makes_room_on_the_disk_for_the_next_one(world, tmp_path):
    device = Tight(world, tmp_path)
    first = begin(world, device, "1")
    second = world.release("2", size=1000)
    world.direct(second)
    device.run(60)
    device.before = first.manifest
    assert device.store.bundle(first.manifest) is not None
    world.direct(world.release("3", size=1000))
    device.run(50)
    assert (device.step, device.serving) == ("committed", ["3"])
    assert not device.events_of("refused")
    assert device.store.bundle(second.manifest) is not None
    device.cut()
