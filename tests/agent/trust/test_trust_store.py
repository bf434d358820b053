"""The trust store: ngclient's workflow, made durable, with time handed in."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from muster_agent.trust.store import SETS_KEPT, TrustStore, TrustStoreError
from muster_agent.trust.time import DAY_SECONDS, ClockReading
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire.directive import DirectiveRefused
from muster_protocol.wire.errors import Refusal
from support.trust_device import RIGHT, YEAR_1970, YEAR_2100, TrustDevice
from support.tuf_repository import NOW, Repository


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def device(tmp_path: Path, repository: Repository) -> TrustDevice:
    return TrustDevice(tmp_path, repository.factory_root)


def test_ngclient_still_keeps_its_reference_time_where_we_set_it(
    tmp_path: Path, repository: Repository
) -> None:
    updater = Updater(str(tmp_path), "https://none.invalid", bootstrap=repository.factory_root)
    assert updater._trusted_set.reference_time.tzinfo is not None
    assert callable(updater._trusted_set.get)


def test_a_release_is_found_by_name_with_its_hash_and_length(
    device: TrustDevice, repository: Repository
) -> None:
    digest = repository.release("digits", "1.0.0", b"the manifest")
    trusted = device.update(repository.files)
    assert trusted.manifest_target("digits", "1.0.0", now=NOW) == (digest, 12)
    assert trusted.manifest_target("digits", "1.0.1", now=NOW) is None
    assert trusted.manifest_target("unknown", "1.0.0", now=NOW) is None
    assert trusted.director_epoch == 1
    assert trusted.versions == {
        "root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "model-digits": 2,
    }  # fmt: skip
    assert trusted.issued == NOW


def test_what_was_verified_is_there_after_a_restart(
    device: TrustDevice, repository: Repository
) -> None:
    digest = repository.release("digits", "1.0.0")
    before = device.update(repository.files)
    device.restart()
    trusted = device.store.trusted()
    assert trusted is not None
    assert trusted.versions == before.versions
    found = trusted.manifest_target("digits", "1.0.0", now=NOW)
    assert found is not None
    assert found[0] == digest


def test_a_cycle_that_follows_no_model_yet_forgets_none(
    device: TrustDevice, repository: Repository
) -> None:
    repository.release("digits", "1.0.0")
    device.update(repository.files)
    device.restart()
    device.models = frozenset()
    repository.publish()
    trusted = device.update(repository.files)
    assert trusted.manifest_target("digits", "1.0.0", now=NOW)


def test_a_fresh_device_trusts_its_factory_root_and_nothing_else(device: TrustDevice) -> None:
    assert device.store.trusted() is None
    assert device.store.versions() == {"root": 1}


def test_nothing_new_writes_nothing(device: TrustDevice, repository: Repository) -> None:
    device.update(repository.files)
    before = sorted((device.directory / "sets").iterdir())
    for _ in range(3):
        device.update(repository.files)
    assert sorted((device.directory / "sets").iterdir()) == before


def test_old_sets_are_pruned_and_current_names_the_newest(
    device: TrustDevice, repository: Repository
) -> None:
    for number in range(6):
        repository.release("digits", f"1.0.{number}")
        device.update(repository.files)
    sets = sorted(int(path.name) for path in (device.directory / "sets").iterdir())
    assert len(sets) == SETS_KEPT
    assert (device.directory / "current").readlink() == Path(f"sets/{sets[-1]}")


def test_metadata_of_one_bad_model_does_not_hold_up_another(tmp_path: Path) -> None:
    repository = Repository(("digits", "pump"))
    device = TrustDevice(tmp_path, repository.factory_root)
    device.models = frozenset({"digits", "pump"})
    repository.release("digits", "1.0.0")
    repository.release("pump", "1.0.0")
    repository.files["2.model-pump.json"] = b"{}"
    trusted = device.update(repository.files)
    assert trusted.manifest_target("digits", "1.0.0", now=NOW)
    with pytest.raises(TrustRefused):
        trusted.manifest_target("pump", "1.0.0", now=NOW)


def test_expiry_blocks_new_installs_and_says_for_how_long(
    device: TrustDevice, repository: Repository
) -> None:
    repository.release("digits", "1.0.0")
    device.update(repository.files)
    later = NOW + 4 * DAY_SECONDS
    with pytest.raises(TrustRefused) as refused:
        device.update(repository.files, ClockReading(later, "synchronised"))
    assert refused.value.refusal == Refusal.METADATA_EXPIRED
    trusted = device.store.trusted()
    assert trusted is not None
    assert trusted.expired(later) == ("timestamp (3 days ago)",)
    with pytest.raises(TrustRefused, match="timestamp \\(3 days ago\\)"):
        trusted.manifest_target("digits", "1.0.0", now=later)
    repository.now = later
    device.assert_updates(repository)


@pytest.mark.parametrize("reading", [YEAR_1970, YEAR_2100], ids=["1970", "2100"])
def test_a_device_with_a_wrong_clock_recovers_without_a_visit(
    device: TrustDevice, repository: Repository, reading: ClockReading
) -> None:
    repository.release("digits", "1.0.0")
    with suppress(TrustRefused):
        device.update(repository.files, reading)
    device.restart()
    device.assert_updates(repository, reading=RIGHT)


def test_a_device_a_year_offline_catches_up_over_every_root(
    device: TrustDevice, repository: Repository
) -> None:
    device.update(repository.files)
    for _ in range(5):
        repository.now += 80 * DAY_SECONDS
        repository.rotate_root("root", "timestamp", "snapshot", old=repository.keys["root"])
        repository.publish("targets")
    repository.publish("model-digits")
    device.assert_updates(repository)
    assert device.store.versions()["root"] == 6


def test_signed_issue_time_is_the_floor_when_the_clock_knows_nothing(
    device: TrustDevice, repository: Repository
) -> None:
    device.update(repository.files, YEAR_1970)
    instant = device.store.now(YEAR_1970)
    assert (instant.seconds, instant.quality) == (NOW, "floor")
    assert device.store.now(ClockReading(NOW + 5, "synchronised")).seconds == NOW + 5


def test_a_missing_or_broken_factory_root_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrustStoreError, match="--root FILE"):
        TrustStore(tmp_path)
    (tmp_path / "root.json").write_bytes(b"{")
    with pytest.raises(TrustStoreError, match="not a factory root"):
        TrustStore(tmp_path)


def test_a_set_left_unfinished_by_a_kill_is_not_read_and_goes_with_the_next(
    device: TrustDevice, repository: Repository
) -> None:
    device.update(repository.files)
    sets = device.directory / "sets"
    shutil.copytree(max(sets.iterdir()), sets / "2.part")
    (sets / "2.part" / "timestamp.json").write_bytes(b"")
    device.restart()
    assert device.store.versions()["timestamp"] == 1
    device.assert_updates(repository)
    assert {path.name for path in sets.iterdir()} == {"1", "2"}


def test_reading_a_store_writes_nothing_beside_a_running_agent(
    device: TrustDevice, repository: Repository
) -> None:
    device.update(repository.files)
    before = {path: path.lstat().st_mtime_ns for path in device.directory.rglob("*")}
    assert TrustStore(device.directory).trusted() is not None
    assert {path: path.lstat().st_mtime_ns for path in device.directory.rglob("*")} == before


def test_a_directive_is_verified_by_the_key_that_targets_delegate(
    device: TrustDevice, repository: Repository
) -> None:
    trusted = device.update(repository.files)
    assert trusted.verify_directive(repository.directive(generation=7)).generation == 7
    with pytest.raises(DirectiveRefused) as refused:
        trusted.verify_directive(repository.envelope(b"{}", keys=repository.keys["snapshot"]))
    assert refused.value.refusal == Refusal.BAD_SIGNATURE
