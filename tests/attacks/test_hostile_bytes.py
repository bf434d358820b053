"""Attacks on a whole device: agent, store and trust on real files, against its broker and sources.

Each ends with the device running the honest hub's next release.
"""

import msgspec
import pytest

from muster_protocol.wire import chunks, manifest, topics
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from support.agent_world import SLOT, Device, World

OTHER = "0" * 64


@pytest.fixture
def world():
    return World()


@pytest.fixture
def device(world, tmp_path):
    """It runs version 1."""
    made = Device(world, tmp_path)
    made.boot()
    world.direct(world.release("1"))
    made.run(60)
    assert made.serving == ["1"]
    yield made
    if made.supervisor is not None:
        made.cut()


def assert_updates(world, device, version="9"):
    world.direct(world.release(version), sources=1)
    device.run(90)
    assert (device.step, device.serving) == ("committed", [version]), device.refusal


def refused(device, refusal, seconds=60):
    device.run(seconds)
    assert device.serving == ["1"], "what ran goes on"
    assert device.refusal == refusal
    assert "\n" not in device.supervisor.runners[SLOT].row.detail


def parts(world, goal):
    """The names of a version's pieces on the wire, by what they are."""
    made = manifest.decode(world.http[goal.manifest])
    model = made.file("model.onnx")
    cut = chunks.parse_index(b"".join(world.http[name] for name in model.index), model.size_bytes)
    golden = made.file("golden.npz")
    names = {"manifest": goal.manifest, "index": model.index[0], "golden vectors": golden.sha256}
    return names | {"first chunk": cut[0], "middle chunk": cut[1], "last chunk": cut[-1]}


@pytest.mark.parametrize(
    "part", ["manifest", "index", "golden vectors", "first chunk", "middle chunk", "last chunk"]
)
def test_one_altered_byte_in_any_part_of_a_bundle_at_every_source_is_refused(world, device, part):
    goal = world.release("2")
    name = parts(world, goal)[part]
    data = bytearray(world.http[name])
    data[len(data) // 2] ^= 1
    world.http[name] = bytes(data)
    world.broker.publish(topics.chunk(name), bytes(data), retain=True)
    world.direct(goal, sources=1)
    refused(device, Refusal.CHUNK_ALTERED)
    assert_updates(world, device)


@pytest.mark.parametrize("change", [b"", b"\0" * 300_000, b"x"], ids=["empty", "endless", "short"])
def test_a_chunk_of_another_length_at_every_source_is_refused(world, device, change):
    goal = world.release("2")
    name = parts(world, goal)["middle chunk"]
    world.http[name] = change
    world.broker.publish(topics.chunk(name), change, retain=True)
    world.direct(goal, sources=1)
    device.run(90)
    assert device.serving == ["1"]
    assert device.refusal in (Refusal.CHUNK_ALTERED, Refusal.CHUNK_MISSING)
    assert_updates(world, device)


def test_a_partial_bundle_is_never_run(world, device):
    goal = world.release("2")
    name = parts(world, goal)["last chunk"]
    del world.http[name]
    del world.broker.retained[topics.chunk(name)]
    world.direct(goal, sources=1)
    device.run(120)
    assert device.serving == ["1"]
    assert device.step != "committed"
    assert device.report().update.refusal in (None, Refusal.CHUNK_MISSING)
    assert_updates(world, device)


def test_a_manifest_that_no_release_key_signed_is_refused_though_the_director_asks_for_it(
    world, device
):
    world.direct(world.release("2", signed=False), sources=1)
    refused(device, Refusal.UNSIGNED_MANIFEST)
    assert_updates(world, device)


def test_another_manifest_under_the_name_of_a_signed_version_is_refused(world, device):
    signed, other = world.release("2"), world.release("3", signed=False)
    world.direct(Goal("digits", "2", other.manifest, other.manifest_bytes), sources=1)
    refused(device, Refusal.UNSIGNED_MANIFEST)
    assert signed.manifest != other.manifest
    assert_updates(world, device)


def test_the_signed_manifest_of_one_version_under_the_name_of_another_is_refused(world, device):
    """A thief of the release key alone can't relabel either: the manifest names itself."""
    first = world.release("2")
    data = world.http[first.manifest]
    world.repository.release("digits", "2.1", data)
    world.publish_catalogue()
    world.direct(Goal("digits", "2.1", first.manifest, first.manifest_bytes), sources=1)
    refused(device, Refusal.MALFORMED)
    assert_updates(world, device)


def test_a_file_nobody_listed_is_not_in_what_runs(world, device):
    goal = world.release("2")
    for name in ("extra.so", "sitecustomize.py"):
        (extra,) = world.publish_chunks([memoryview(name.encode())])
        assert extra in world.http
    world.direct(goal, sources=1)
    device.run(60)
    bundle = device.store.bundle(goal.manifest)
    assert {path.name for path in bundle.iterdir()} <= {
        "model.onnx", "golden.npz", "manifest.json",
    }  # fmt: skip
    assert_updates(world, device)


@pytest.mark.parametrize(
    ("path", "file"),
    [("../../escape", "model.onnx"), ("/tmp/escape", "model.onnx"), ("a/../../b", "golden.npz")],
)
def test_a_signed_manifest_whose_paths_leave_the_bundle_writes_nothing(
    world, device, tmp_path, path, file
):
    """Even release keys in the wrong hands can't have a device write outside its store."""
    goal = world.release("2", signed=False)
    tree = msgspec.json.decode(world.http[goal.manifest])
    for entry in tree["files"]:
        if entry["path"] == file:
            entry["path"] = path
    data = msgspec.json.encode(tree)
    (digest,) = world.publish_chunks([memoryview(data)])
    world.repository.release("digits", "2", data)
    world.publish_catalogue()
    before = {path for path in tmp_path.parent.rglob("*") if path.name in ("escape", "b")}
    world.direct(Goal("digits", "2", digest, len(data)), sources=1)
    refused(device, Refusal.MALFORMED)
    assert {path for path in tmp_path.parent.rglob("*") if path.name in ("escape", "b")} == before
    assert_updates(world, device)


def test_an_oversized_manifest_is_refused_before_it_is_fetched(world, device):
    goal = world.release("2")
    world.direct(Goal("digits", "2", goal.manifest, 10 * goal.manifest_bytes), sources=1)
    device.run(60)
    assert device.serving == ["1"]
    assert_updates(world, device)


def test_a_version_that_was_retired_is_not_installed_although_the_director_asks(world, device):
    goal = world.release("2")
    role = world.repository.roles["model-digits"].signed
    role.targets.pop(manifest.target_path("digits", "2"))
    world.repository.publish("model-digits")
    world.publish_catalogue()
    world.direct(goal, sources=1)
    refused(device, Refusal.UNSIGNED_MANIFEST)
    assert_updates(world, device)


def test_a_retired_model_leaves_a_role_that_devices_go_on_to_follow(world, device):
    world.repository.roles["model-digits"].signed.targets.clear()
    world.repository.publish("model-digits")
    world.publish_catalogue()
    device.run(30)
    assert device.serving == ["1"], "what runs is not stopped by a tombstone"
    assert_updates(world, device)


def test_chunks_altered_on_the_disk_after_the_fetch_are_not_run(world, device):
    goal = world.release("2")
    world.direct(goal, sources=1)
    device.run(1.0)
    store = device.directory / "store"
    for path in store.rglob("*"):
        if path.is_file() and path.stat().st_size == 128 * 1024:
            data = bytearray(path.read_bytes())
            data[0] ^= 1
            path.chmod(0o600)
            path.write_bytes(data)
    device.run(90)
    assert device.serving in (["1"], ["2"])
    assert_updates(world, device)
