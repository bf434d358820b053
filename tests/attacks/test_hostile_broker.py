"""Attacks by whoever controls the broker or the wire, without any key.

Each ends with the device taking the honest hub's next release.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from muster_agent.trust.time import ClockReading
from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire import limits
from muster_protocol.wire.errors import Refusal
from support.trust_device import RIGHT, TrustDevice
from support.tuf_repository import NOW, Repository, signers


def refused(
    device: TrustDevice, files: Mapping[str, bytes], reading: ClockReading = RIGHT
) -> tuple[Refusal, str]:
    before = device.store.versions()
    with pytest.raises(TrustRefused) as caught:
        device.update(files, reading)
    after = device.store.versions()
    assert all(after[stem] >= version for stem, version in before.items() if stem in after)
    return caught.value.refusal, str(caught.value)


def model_refused(device: TrustDevice, files: Mapping[str, bytes], version: str) -> Refusal:
    """The refusal of a release when only its model's role is bad."""
    trusted = device.update(files)
    with pytest.raises(TrustRefused) as caught:
        trusted.manifest_target("digits", version, now=NOW)
    return caught.value.refusal


def altered(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    parsed = json.loads(data)
    change(parsed)
    return json.dumps(parsed).encode()


def newest(files: Mapping[str, bytes], stem: str) -> str:
    return max(
        (name for name in files if name.endswith(f".{stem}.json")),
        key=lambda name: int(name.split(".")[0]),
    )


def test_arbitrary_software_signed_by_nobody_we_know_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    honest = repository.keys["model-digits"]
    repository.keys["model-digits"] = signers()
    repository.release("digits", "6.6.6")
    assert model_refused(device, repository.files, "6.6.6") == Refusal.BAD_SIGNATURE
    repository.keys["model-digits"] = honest
    device.assert_updates(repository)


@pytest.mark.parametrize("stem", ["timestamp", "snapshot", "targets"])
def test_metadata_with_its_signatures_stripped_is_refused(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    repository.publish("targets")
    files = dict(repository.files)
    name = "timestamp.json" if stem == "timestamp" else newest(files, stem)
    files[name] = altered(files[name], lambda parsed: parsed["signatures"].clear())
    assert refused(device, files)[0] == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


@pytest.mark.parametrize("stem", ["timestamp", "snapshot", "targets"])
def test_one_altered_field_in_metadata_is_refused(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    repository.publish("targets")
    files = dict(repository.files)
    name = "timestamp.json" if stem == "timestamp" else newest(files, stem)
    files[name] = altered(
        files[name], lambda parsed: parsed["signed"].update(expires="2999-01-01T00:00:00Z")
    )
    assert refused(device, files)[0] == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


def test_an_altered_hash_of_a_manifest_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    repository.release("digits", "1.2.0")
    files = dict(repository.files)
    name = newest(files, "model-digits")

    def change(parsed: dict[str, Any]) -> None:
        parsed["signed"]["targets"]["digits/1.2.0/manifest.json"]["hashes"]["sha256"] = "0" * 64

    files[name] = altered(files[name], change)
    assert model_refused(device, files, "1.2.0") == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


def test_rollback_to_an_old_timestamp_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    old = dict(repository.files)
    repository.release("digits", "1.2.0")
    device.update(repository.files)
    refusal, message = refused(device, old)
    assert refusal == Refusal.METADATA_ROLLBACK
    assert "rollback" in message
    device.assert_updates(repository)


def test_rollback_survives_a_restart_of_the_agent(
    device: TrustDevice, repository: Repository
) -> None:
    old = dict(repository.files)
    repository.release("digits", "1.2.0")
    device.update(repository.files)
    device.restart()
    assert refused(device, old)[0] == Refusal.METADATA_ROLLBACK
    device.assert_updates(repository)


def test_rollback_to_an_old_root_under_a_new_name_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    repository.rotate_root("timestamp")
    repository.publish()
    device.update(repository.files)
    files = repository.files | {"3.root.json": repository.files["1.root.json"]}
    assert refused(device, files)[0] == Refusal.METADATA_ROLLBACK
    device.assert_updates(repository)


def test_a_root_that_skips_a_version_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    repository.rotate_root("timestamp")
    repository.rotate_root("timestamp")
    repository.publish()
    files = repository.files | {"2.root.json": repository.files["3.root.json"]}
    assert refused(device, files)[0] == Refusal.METADATA_ROLLBACK
    device.assert_updates(repository)


def test_mix_and_match_of_an_old_role_with_a_new_snapshot_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    old = repository.files[newest(repository.files, "model-digits")]
    repository.release("digits", "1.2.0")
    files = repository.files | {newest(repository.files, "model-digits"): old}
    assert model_refused(device, files, "1.2.0") == Refusal.METADATA_ROLLBACK
    device.assert_updates(repository)


def test_mix_and_match_of_an_old_snapshot_with_a_new_timestamp_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    old = repository.files[newest(repository.files, "snapshot")]
    repository.release("digits", "1.2.0")
    files = repository.files | {newest(repository.files, "snapshot"): old}
    assert refused(device, files)[0] == Refusal.METADATA_ROLLBACK
    device.assert_updates(repository)


def test_metadata_of_one_kind_in_place_of_another_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    repository.publish("targets")
    files = dict(repository.files)
    files[newest(files, "targets")] = files[newest(files, "snapshot")]
    assert refused(device, files)[0] == Refusal.METADATA_INVALID
    device.assert_updates(repository)


def test_the_role_of_another_model_in_place_of_ours_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    repository.add_model("pump")
    repository.publish("targets", "model-pump")
    repository.release("digits", "1.2.0")
    files = dict(repository.files)
    files[newest(files, "model-digits")] = files[newest(files, "model-pump")]
    assert model_refused(device, files, "1.2.0") == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


@pytest.mark.parametrize("stem", ["timestamp", "root", "snapshot", "targets"])
def test_endless_data_is_refused_without_being_kept(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    repository.rotate_root("timestamp")
    repository.publish("targets")
    files = dict(repository.files)
    name = "timestamp.json" if stem == "timestamp" else newest(files, stem)
    files[name] = b'{"signed":' + b" " * (4 * limits.TUF_METADATA_BYTES_MAX)
    refusal, message = refused(device, files)
    assert refusal == Refusal.TOO_LARGE
    assert "endless data" in message
    device.assert_updates(repository)


@pytest.mark.parametrize("stem", ["snapshot", "targets"])
def test_withheld_metadata_is_refused_and_named(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    repository.publish("targets")
    files = dict(repository.files)
    name = newest(files, stem)
    del files[name]
    refusal, message = refused(device, files)
    assert refusal == Refusal.METADATA_MISSING
    assert name in message
    device.assert_updates(repository)


def test_a_withheld_role_blocks_its_model_only(device: TrustDevice, repository: Repository) -> None:
    repository.release("digits", "1.2.0")
    files = dict(repository.files)
    del files[newest(files, "model-digits")]
    assert model_refused(device, files, "1.2.0") == Refusal.METADATA_MISSING
    device.assert_updates(repository)


def test_a_broker_that_hands_out_nothing_changes_nothing(
    device: TrustDevice, repository: Repository
) -> None:
    assert refused(device, {})[0] == Refusal.METADATA_MISSING
    trusted = device.store.trusted()
    assert trusted is not None
    assert trusted.manifest_target("digits", "1.1.0", now=NOW)
    device.assert_updates(repository)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\0" * 4096,
        b"null",
        b"[" * 100_000,
        b'{"signed":{"_type":"timestamp"},"signatures":[]}',
        b'{"signed":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
        b'{"version":' + b"9" * 10_000 + b"}",
        b"\xff\xfe\xfd",
    ],
    ids=["empty", "zeroes", "null", "brackets", "bare", "deep", "huge number", "not text"],
)
def test_junk_in_place_of_a_timestamp_is_refused(
    device: TrustDevice, repository: Repository, junk: bytes
) -> None:
    files = repository.files | {"timestamp.json": junk}
    assert refused(device, files)[0] in {Refusal.METADATA_INVALID, Refusal.TOO_LARGE}
    device.assert_updates(repository)


def test_another_hubs_whole_catalogue_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    other = Repository()
    for version in ("1.0.0", "1.1.0", "6.6.6"):
        other.release("digits", version)
    assert refused(device, other.files)[0] == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


def test_files_nobody_named_are_never_asked_for(
    device: TrustDevice, repository: Repository
) -> None:
    repository.release("digits", "1.2.0")
    files = repository.files | {"9.extraneous.json": b"{}", "7.director.json": b"{}"}
    device.update(files)
    assert not {"9.extraneous.json", "7.director.json"} & device.asked
    device.assert_updates(repository)
