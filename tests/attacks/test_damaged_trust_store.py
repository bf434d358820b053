"""Power cuts and worn flash: no damage to the trust store lets an older catalogue back in."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from muster_agent.trust.store import TrustStore, TrustStoreError
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire.errors import Refusal
from support.trust_device import TrustDevice
from support.tuf_repository import NOW, Repository


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def unlink(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, zero, half, flip, unlink]
FILES = [
    "timestamp.json",
    "snapshot.json",
    "targets.json",
    "model-digits.json",
    "root_history/2.root.json",
    "sums.json",
]


@pytest.fixture
def first(repository: Repository) -> dict[str, bytes]:
    """The catalogue as it was before the device's first update."""
    return dict(repository.files)


@pytest.fixture
def aged(first: dict[str, bytes], device: TrustDevice, repository: Repository) -> TrustDevice:
    repository.rotate_root("targets")
    repository.publish("targets")
    device.update(repository.files)
    repository.release("digits", "1.2.0")
    device.update(repository.files)
    return device


def newest(device: TrustDevice) -> Path:
    return max((device.directory / "sets").iterdir(), key=lambda path: int(path.name))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_does_not_lose_the_memory_of_what_was_seen(
    aged: TrustDevice,
    repository: Repository,
    first: dict[str, bytes],
    damage: Callable[[Path], None],
    file: str,
) -> None:
    damage(newest(aged) / file)
    aged.restart()
    assert aged.store.versions()["root"] == 2
    assert aged.store.versions()["timestamp"] >= 3
    with pytest.raises(TrustRefused) as caught:
        aged.update(first)
    assert caught.value.refusal == Refusal.METADATA_ROLLBACK
    aged.assert_updates(repository)


def test_a_whole_set_lost_falls_back_to_the_one_before(
    aged: TrustDevice, repository: Repository, first: dict[str, bytes]
) -> None:
    shutil.rmtree(newest(aged))
    aged.restart()
    with pytest.raises(TrustRefused) as caught:
        aged.update(first)
    assert caught.value.refusal == Refusal.METADATA_ROLLBACK
    aged.assert_updates(repository)


def test_every_file_of_the_newest_set_zeroed_falls_back_to_the_one_before(
    aged: TrustDevice, repository: Repository, first: dict[str, bytes]
) -> None:
    for path in newest(aged).rglob("*.json"):
        zero(path)
    aged.restart()
    with pytest.raises(TrustRefused) as caught:
        aged.update(first)
    assert caught.value.refusal == Refusal.METADATA_ROLLBACK
    aged.assert_updates(repository)


def test_a_dangling_current_link_harms_nothing(aged: TrustDevice, repository: Repository) -> None:
    link = aged.directory / "current"
    link.unlink()
    link.symlink_to("sets/999")
    aged.restart()
    aged.assert_updates(repository)
    assert (link / "timestamp.json").exists()


def test_a_damaged_factory_root_stops_the_agent_with_words_until_it_is_restored(
    aged: TrustDevice, repository: Repository
) -> None:
    path = aged.directory / "root.json"
    truncate(path)
    with pytest.raises(TrustStoreError, match="restore it from the installer"):
        TrustStore(aged.directory)
    path.write_bytes(repository.factory_root)
    aged.restart()
    aged.assert_updates(repository)


def test_files_planted_in_a_set_are_not_believed(aged: TrustDevice, repository: Repository) -> None:
    stranger = Repository()
    stranger.release("digits", "6.6.6")
    for stem in ("targets", "model-digits"):
        data = stranger.files[f"{1 if stem == 'targets' else 2}.{stem}.json"]
        (newest(aged) / f"{stem}.json").write_bytes(data)
    (newest(aged) / "sums.json").unlink()
    aged.restart()
    trusted = aged.store.trusted()
    assert trusted is not None
    assert trusted.manifest_target("digits", "6.6.6", now=NOW) is None
    aged.assert_updates(repository)


def test_two_updaters_at_once_never_take_each_other_back(
    aged: TrustDevice, repository: Repository, first: dict[str, bytes]
) -> None:
    other = TrustStore(aged.directory)
    repository.release("digits", "1.3.0")
    aged.update(repository.files)
    aged.store, mine = other, aged.store
    with pytest.raises(TrustRefused) as caught:
        aged.update(first)
    assert caught.value.refusal == Refusal.METADATA_ROLLBACK
    aged.store = mine
    aged.assert_updates(repository)
