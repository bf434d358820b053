"""The store: only what hashes right, bundles whole, and nothing needed is ever deleted."""

import hashlib
import os
import random

import pytest

from muster_agent.storage.content import ChunksMissing, Store, StoreRefused
from muster_agent.storage.current import CurrentLinks
from muster_protocol.wire import chunks, limits, manifest
from muster_protocol.wire.errors import Refusal

MODEL_BYTES = 3 * limits.CHUNK_BYTES + 1000


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store", cache_bytes=0, free_bytes_min=0)
    made.clean()
    return made


def release(store, version, model=None, sha256=None):
    """Put every chunk of a version into the store; returns (manifest, digest, chunk names)."""
    rng = random.Random(version)
    model = model or rng.randbytes(MODEL_BYTES)
    sha256 = sha256 or hashlib.sha256(model).hexdigest()
    names = []

    def put(data):
        names.append(chunks.sha256_hex(data))
        store.put(names[-1], data)
        return names[-1]

    pieces = tuple(put(piece) for piece in chunks.cut(model))
    index = tuple(put(piece) for piece in chunks.cut(chunks.index_of(pieces)))
    golden = rng.randbytes(10)
    listing = manifest.Manifest(
        model="digits", version=version, created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 4)),),
        outputs=(manifest.Tensor("p", "FP32", (-1, 3)),),
        builds=(manifest.Build("onnx", "model.onnx", limits.MIB),),
        files=(
            manifest.File("model.onnx", len(model), sha256, index),
            manifest.File("golden.npz", 10, put(golden)),
        ),
        golden=manifest.Golden("golden.npz"),
    )  # fmt: skip
    text = manifest.encode(listing)
    return listing, put(text), names


def install(store, version, **changes):
    listing, digest, names = release(store, version, **changes)
    list(store.assemble(digest, listing, listing.builds[0]))
    return listing, digest, names


def test_a_bundle_is_put_together_from_its_chunks(store):
    listing, digest, _ = install(store, "1")
    bundle = store.bundle(digest)
    for entry in listing.files:
        data = (bundle / entry.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
    assert chunks.sha256_hex((bundle / "manifest.json").read_bytes()) == digest
    assert store.holds(digest, listing.files)
    assert list(store.problems()) == []


def test_a_bundle_has_no_name_until_it_is_whole(store):
    listing, digest, _ = release(store, "1")
    steps = store.assemble(digest, listing, listing.builds[0])
    next(steps)
    assert store.bundle(digest) is None
    steps.close()
    assert list((store.directory / "bundles").iterdir()) == []


def test_chunks_as_signed_that_make_another_file_are_refused(store):
    listing, digest, _ = release(store, "1", sha256="00" * 32)
    with pytest.raises(StoreRefused) as refused:
        list(store.assemble(digest, listing, listing.builds[0]))
    assert refused.value.refusal is Refusal.FILE_MISMATCH
    assert store.bundle(digest) is None


def test_a_chunk_that_rots_on_the_disk_is_found_and_asked_for_again(store):
    listing, digest, names = release(store, "1")
    path = store.directory / "chunks" / names[1][:2] / names[1]
    path.write_bytes(b"rot")
    assert any(str(path) in line for line in store.problems())
    with pytest.raises(ChunksMissing) as missing:
        list(store.assemble(digest, listing, listing.builds[0]))
    assert missing.value.digests == (names[1],)
    assert not store.has(names[1])


def test_chunks_of_an_installed_bundle_need_not_be_fetched_again(store):
    base = random.Random(0).randbytes(MODEL_BYTES)
    _, first, names = install(store, "1", model=base)
    store.sweep({first}, set())
    assert not (store.directory / "chunks" / names[0][:2] / names[0]).exists()
    assert store.has(names[0])
    assert chunks.sha256_hex(store.read(names[0])) == names[0]
    changed = base[: 2 * limits.CHUNK_BYTES] + os.urandom(MODEL_BYTES - 2 * limits.CHUNK_BYTES)
    shared = [chunks.sha256_hex(piece) for piece in chunks.cut(changed)]
    assert [store.has(name) for name in shared] == [True, True, False, False]


def test_a_rotten_installed_file_is_not_taken_for_its_chunks(store):
    _, first, names = install(store, "1")
    store.sweep({first}, set())
    model = store.bundle(first) / "model.onnx"
    model.write_bytes(b"\0" * MODEL_BYTES)
    assert store.read(names[0]) is None
    assert not store.has(names[0])


def test_sweeping_never_touches_what_is_kept_or_fetched(store):
    _, kept, _ = install(store, "1")
    listing, fetching, names = release(store, "2")
    _, old, _ = install(store, "3")
    store.sweep({kept, fetching}, {fetching})
    assert store.bundle(kept)
    assert store.bundle(old) is None
    assert all(store.has(name) for name in names)
    list(store.assemble(fetching, listing, listing.builds[0]))


def test_chunks_nobody_needs_are_a_bounded_cache_oldest_out_first(tmp_path):
    store = Store(tmp_path / "store", cache_bytes=250, free_bytes_min=0)
    store.clean()
    names = []
    for number in range(5):
        data = bytes([number]) * 100
        names.append(chunks.sha256_hex(data))
        store.put(names[-1], data)
        path = store.directory / "chunks" / names[-1][:2] / names[-1]
        os.utime(path, (number, number))
    store.sweep(set(), set())
    assert [store.has(name) for name in names] == [False, False, False, True, True]


def test_an_update_that_would_fill_the_disk_is_refused_before_a_byte_comes(tmp_path):
    store = Store(tmp_path, free_bytes_min=100, free_bytes=lambda _path: 1000)
    store.preflight(900)
    with pytest.raises(StoreRefused, match="901 bytes and must leave 100") as refused:
        store.preflight(901)
    assert refused.value.refusal is Refusal.NO_SPACE


def test_the_current_links_say_what_runs_and_are_repaired(tmp_path, store):
    _, digest, _ = install(store, "1")
    links = CurrentLinks(tmp_path / "current", store)
    links.point("main", digest)
    (tmp_path / "current" / "other").symlink_to("../store/bundles/gone")
    goals = links.read()
    assert list(goals) == ["main"]
    assert (goals["main"].version, goals["main"].manifest) == ("1", digest)
    assert (tmp_path / "current" / "main" / "model.onnx").is_file()


def test_a_sweep_leaves_chunks_that_wait_for_their_commit(store):
    digest = chunks.sha256_hex(b"data")
    assert store.add(digest, b"data") == 4
    assert not store.has(digest)
    store.sweep(set(), set())
    store.commit()
    assert store.read(digest) == b"data"
