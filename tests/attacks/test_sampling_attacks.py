"""Attacks on raw data: nothing leaves but what release keys signed and the device allows."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from muster_agent.worker.rows import RingLayout
from muster_protocol.wire import sampling
from muster_protocol.wire.directive import Goal, Slot
from muster_protocol.wire.sampling import Blur, SampledFeature, SamplingLimits, SamplingPolicy
from muster_protocol.wire.tensors import Tensor
from support.agent_world import SLOT, Device, World
from support.tuf_repository import NOW

SECRET = 41.5
DAY = 86_400
ALLOWED = SamplingLimits(
    features={
        "flow": SampledFeature("x", 0, 1),
        "serial": SampledFeature("x", 1, 1, privacy="hash"),
    },
    rows_per_day=20,
    rows_max=30,
)
BESIDE = {sampling.FILE: sampling.encode_limits(ALLOWED)}
POLICY = SamplingPolicy(
    policy="1", features={"flow": "plain"}, rows_per_day=20, strata=("random",), expires=NOW + DAY
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    made = Device(world, tmp_path)
    made.boot()
    return made


def ask(world: World, device: Device, goal: Goal, policy: SamplingPolicy | None) -> None:
    """What a hub signs, honest or stolen."""
    slot = Slot(goal) if policy is None else Slot(goal, sampling=policy)
    world.direct(None, slots={SLOT: slot}, expires=NOW + 30 * DAY)
    device.run(2)


def serving(world: World, device: Device, **fields: object) -> Goal:
    goal = world.release("1", beside=BESIDE, **fields)
    world.direct(goal)
    device.run(45)
    assert device.serving == ["1"]
    return goal


def answers(device: Device, goal: Goal, count: int) -> None:
    """The model answers so many requests, and their rows are read."""
    listing = device.install.manifest(goal)
    layout = RingLayout.of(listing, goal.manifest)
    rows = np.zeros(count, layout.dtype)
    values = np.arange(4 * count, dtype="<f4").reshape(count, 4)
    values[:, 1] = SECRET
    rows["input"] = values.view("V16").ravel()
    device.sampler.offer(SLOT, goal, listing, rows, False)
    device.run(2)


def assert_updates(world: World, device: Device) -> None:
    """The device still takes the next release."""
    world.clock.trusted = "unknown"  # This world's catalogue is signed for a day, and days went by.
    world.direct(world.release("2"), expires=NOW + 30 * DAY)
    device.run(60)
    assert device.serving == ["2"]


def kept_bytes(device: Device) -> bytes:
    """All that lies in the agent's directory, as a thief of the disk's image reads it."""
    files = (path for path in device.directory.rglob("*") if path.is_file())
    return b"".join(path.read_bytes() for path in files)


def test_rows_are_sent_under_a_policy_within_the_release(world: World, device: Device) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    answers(device, goal, 1)
    ((sample, content),) = device.samples
    assert (sample.policy, sample.slot, sample.stratum) == ("1", SLOT, "random")
    assert content.features == {"flow": (0.0,)}
    assert content.answers == {}
    assert "policy 1: 1 rows today" in device.report().sampling
    assert_updates(world, device)


def test_nothing_leaves_without_a_policy(world: World, device: Device) -> None:
    goal = serving(world, device)
    answers(device, goal, 50)
    assert device.samples == []
    assert_updates(world, device)


BEYOND = {
    "a feature that the release doesn't name": {"features": {"pressure": "plain"}},
    "a feature in the clear that may leave as a hash": {"features": {"serial": "plain"}},
    "more rows a day": {"rows_per_day": 21},
    "answers": {"answers": True},
}


@pytest.mark.parametrize("more", BEYOND.values(), ids=BEYOND)
def test_a_stolen_hub_can_not_sample_beyond_what_release_keys_signed(
    world: World, device: Device, more: dict[str, object]
) -> None:
    goal = serving(world, device)
    ask(world, device, goal, msgspec.structs.replace(POLICY, **more))
    answers(device, goal, 5)
    assert device.samples == []
    (event,) = device.events_of("sampling")
    assert "refused: " in event.detail
    assert "refused" in device.report().sampling
    assert_updates(world, device)


SEEN = np.random.default_rng(4).integers(0, 256, (16, 16)).astype(np.uint8)
EYE = SampledFeature("x", privacy="blur", blur=Blur(2, 2))
LOOK = msgspec.structs.replace(POLICY, features={"eye": "blur"})


def looking(world: World, device: Device, policy: SamplingPolicy, signed: SampledFeature) -> None:
    """A release whose input is an image, a policy, and an image that the model answers."""
    allowed = msgspec.structs.replace(ALLOWED, features={"eye": signed})
    beside = {sampling.FILE: sampling.encode_limits(allowed)}
    goal = world.release("1", beside=beside, inputs=(Tensor("x", "UINT8", (-1, 16, 16)),))
    world.direct(goal)
    device.run(45)
    ask(world, device, goal, policy)
    listing = device.install.manifest(goal)
    rows = np.zeros(1, RingLayout.of(listing, goal.manifest).dtype)
    rows["input"] = SEEN.reshape(1, 256).view("V256").ravel()
    device.sampler.offer(SLOT, goal, listing, rows, False)
    device.run(2)


def test_an_image_leaves_as_the_cells_that_release_keys_signed(
    world: World, device: Device
) -> None:
    looking(world, device, LOOK, EYE)
    ((_, content),) = device.samples
    cells = SEEN.reshape(2, 8, 2, 8).mean(axis=(1, 3)).ravel()
    assert content.features == {"eye": pytest.approx(tuple(cells.tolist()))}
    assert_updates(world, device)


UNBLURRED = {
    "asked in the clear": (msgspec.structs.replace(POLICY, features={"eye": "plain"}), EYE),
    "signed as a hash": (LOOK, SampledFeature("x", privacy="hash", blur=Blur(2, 2))),
    "no grid signed": (LOOK, SampledFeature("x")),
    "a grid so fine that it shows the pixels": (LOOK, SampledFeature("x", blur=Blur(16, 16))),
}


@pytest.mark.parametrize(("policy", "signed"), UNBLURRED.values(), ids=UNBLURRED)
def test_no_policy_gets_a_finer_image_than_release_keys_signed(
    world: World, device: Device, policy: SamplingPolicy, signed: SampledFeature
) -> None:
    looking(world, device, policy, signed)
    assert device.samples == []
    assert SEEN.tobytes() not in kept_bytes(device)
    assert_updates(world, device)


def test_a_stolen_hub_can_not_sample_a_version_whose_release_says_nothing_of_it(
    world: World, device: Device
) -> None:
    goal = world.release("1")
    world.direct(goal)
    device.run(45)
    ask(world, device, goal, POLICY)
    answers(device, goal, 5)
    assert device.samples == []
    assert "allows no sampling" in device.events_of("sampling")[0].detail
    assert_updates(world, device)


def test_new_policies_do_not_raise_what_a_release_allows_in_all(
    world: World, device: Device
) -> None:
    goal = serving(world, device)
    for number in range(40):
        ask(world, device, goal, msgspec.structs.replace(POLICY, policy=str(number)))
        answers(device, goal, 5)
    assert len(device.samples) == ALLOWED.rows_per_day
    world.clock.seconds += DAY
    for number in range(40, 80):
        policy = msgspec.structs.replace(POLICY, policy=str(number), expires=NOW + 3 * DAY)
        ask(world, device, goal, policy)
        answers(device, goal, 5)
    assert len(device.samples) == ALLOWED.rows_max
    assert_updates(world, device)


def test_setting_the_clock_back_gains_nothing(world: World, device: Device) -> None:
    goal = serving(world, device)
    for number in range(30):
        world.clock.wall_offset -= DAY
        ask(world, device, goal, msgspec.structs.replace(POLICY, policy=str(number)))
        answers(device, goal, 5)
    assert len(device.samples) == ALLOWED.rows_per_day
    assert_updates(world, device)


def test_an_altered_file_of_limits_allows_nothing(world: World, device: Device) -> None:
    goal = serving(world, device)
    bundle = device.store.bundle(goal.manifest)
    assert bundle is not None
    wider = msgspec.structs.replace(
        ALLOWED, features={"flow": SampledFeature("x", 0, 1, privacy="plain")}, rows_per_day=99
    )
    (bundle / sampling.FILE).chmod(0o600)
    (bundle / sampling.FILE).write_bytes(sampling.encode_limits(wider))
    ask(world, device, goal, POLICY)
    answers(device, goal, 5)
    assert device.samples == []
    assert "not what the manifest says" in device.report().sampling
    assert_updates(world, device)


def test_a_device_that_refuses_stays_refused(world: World, device: Device) -> None:
    goal = serving(world, device)
    device.cut()
    device.may_be_sampled = False
    device.boot()
    for number in range(3):
        ask(world, device, goal, msgspec.structs.replace(POLICY, policy=str(number)))
        answers(device, goal, 5)
        assert "refused: this device is not to be sampled" in device.report().sampling
    assert device.samples == []
    assert len(device.events_of("sampling")) == 3
    assert_updates(world, device)


def test_a_device_that_comes_to_refuse_deletes_what_waits(world: World, device: Device) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    device.linked = False
    device.link.stop()
    answers(device, goal, 1)
    device.cut()
    device.may_be_sampled, device.linked = False, True
    device.boot()
    device.run(5)
    assert device.samples == []
    assert "1 rows deleted" in device.events_of("sampling")[0].detail
    assert_updates(world, device)


def test_a_hashed_feature_never_leaves_in_the_clear(world: World, device: Device) -> None:
    goal = serving(world, device)
    ask(world, device, goal, msgspec.structs.replace(POLICY, features={"serial": "hash"}))
    answers(device, goal, 1)
    answers(device, goal, 1)
    (_, content), *_ = device.samples
    assert content.features == {}
    assert np.float32(SECRET).tobytes().hex() not in content.codes["serial"]
    assert_updates(world, device)


def test_what_waits_is_sealed_and_the_end_of_a_policy_destroys_its_key(
    world: World, device: Device
) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    device.link.stop()
    answers(device, goal, 1)
    key = device.directory / "samples" / f"{SLOT}.key"
    assert msgspec.msgpack.encode("flow") not in kept_bytes(device)
    assert key.stat().st_mode & 0o777 == 0o600
    assert device.outbox.samples(f"{SLOT}/1") == 1
    world.clock.seconds += 2 * DAY
    device.run(200)
    assert device.outbox.samples(f"{SLOT}/1") == 0
    assert not key.exists()
    assert "over: expired" in device.report().sampling
    device.cut()
    device.boot()
    assert_updates(world, device)


def test_samples_of_a_withdrawn_policy_are_gone_with_a_receipt(
    world: World, device: Device
) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    answers(device, goal, 1)
    ask(world, device, goal, None)
    answers(device, goal, 5)
    assert len(device.samples) == 1
    (receipt,) = device.events_of("sampling")
    assert "policy 1 is over: withdrawn" in receipt.detail
    assert receipt.values == {"captured": 1.0, "deleted": 0.0}
    assert not (device.directory / "samples" / f"{SLOT}.key").exists()
    assert device.report().sampling == ""
    assert_updates(world, device)


def test_an_expired_policy_takes_nothing_and_is_not_taken_up_again(
    world: World, device: Device
) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    world.clock.seconds += DAY + 1
    answers(device, goal, 5)
    device.cut()
    world.clock.trusted = "unknown"
    device.boot()
    ask(world, device, goal, POLICY)
    answers(device, goal, 5)
    assert device.samples == []
    assert_updates(world, device)


def test_a_device_without_the_time_counts_its_own_until_the_end(
    world: World, device: Device
) -> None:
    world.clock.trusted = "unknown"
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    answers(device, goal, 1)
    world.clock.seconds += 2 * DAY
    answers(device, goal, 1)
    assert len(device.samples) == 1
    assert "over: expired" in device.report().sampling
    assert_updates(world, device)


def test_rows_of_another_version_than_the_policys_are_not_taken(
    world: World, device: Device
) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    other = msgspec.structs.replace(goal, manifest="ab" * 32)
    listing = device.install.manifest(goal)
    rows = np.zeros(5, RingLayout.of(listing, goal.manifest).dtype)
    device.sampler.offer(SLOT, other, listing, rows, False)
    device.run(2)
    assert device.samples == []
    assert_updates(world, device)


def test_sampling_survives_a_restart_and_goes_on(world: World, device: Device) -> None:
    goal = serving(world, device)
    ask(world, device, goal, POLICY)
    device.link.stop()
    answers(device, goal, 1)
    device.cut()
    device.boot()
    device.run(5)
    assert len(device.samples) == 1
    answers(device, goal, 1)
    assert len(device.samples) == 2
    assert_updates(world, device)
