"""Attacks by a thief who holds keys, up to every key the hub keeps online.

A stolen hub can freeze the fleet or choose among signed models. It can't invent one, and the
owners of the offline keys get the fleet back without visiting a device.
"""

import copy
import json
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, TargetFile, Targets

from muster_agent.trust.trusted import TrustRefused
from muster_protocol.wire import manifest
from muster_protocol.wire.errors import Refusal
from support.trust_device import RIGHT, TrustDevice
from support.tuf_repository import NOW, Repository, signers

FAR = 900_000_000
EVIL = b"the manifest of a model nobody released"


def refused(device: TrustDevice, files: dict[str, bytes]) -> Refusal:
    with pytest.raises(TrustRefused) as caught:
        device.update(files)
    return caught.value.refusal


def evil_targets(repository: Repository, version: int = 50) -> Metadata[Any]:
    path = manifest.target_path("digits", "6.6.6")
    made = Targets(version, expires=repository.roles["targets"].signed.expires)
    made.targets[path] = TargetFile.from_data(path, EVIL, ["sha256"])
    return Metadata(made)


def lay(repository: Repository, role: str, metadata: Metadata[Any], keys: Any) -> None:
    """Put a forged role at the broker and into honest-looking snapshot and timestamp."""
    version = metadata.signed.version
    repository.files[f"{version}.{role}.json"] = repository.signed(metadata, keys)
    repository.roles["snapshot"].signed.meta[f"{role}.json"] = MetaFile(version)
    repository.publish()


def recover(device: TrustDevice, repository: Repository, honest: dict[str, Any]) -> None:
    """The owners rotate the stolen online keys and publish what they know to be true."""
    repository.roles = honest
    repository.rotate_root("snapshot", "timestamp")
    repository.publish()
    device.assert_updates(repository)


def online_keys(repository: Repository) -> list[Any]:
    return [key for role in ("director", "snapshot", "timestamp") for key in repository.keys[role]]


def test_director_snapshot_and_timestamp_keys_together_can_not_sign_a_model_as_director(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    lay(repository, "director", evil_targets(repository, 1), online_keys(repository))
    trusted = device.update(repository.files)
    assert trusted.manifest_target("digits", "6.6.6", now=NOW) is None
    recover(device, repository, honest)


def test_director_snapshot_and_timestamp_keys_together_can_not_replace_a_release_role(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    lay(repository, "model-digits", evil_targets(repository), online_keys(repository))
    trusted = device.update(repository.files)
    with pytest.raises(TrustRefused) as caught:
        trusted.manifest_target("digits", "6.6.6", now=NOW)
    assert caught.value.refusal == Refusal.BAD_SIGNATURE
    recover(device, repository, honest)


def test_director_snapshot_and_timestamp_keys_together_can_not_replace_targets(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    lay(repository, "targets", evil_targets(repository), online_keys(repository))
    assert refused(device, repository.files) == Refusal.BAD_SIGNATURE
    recover(device, repository, honest)


def test_director_snapshot_and_timestamp_keys_together_can_not_make_a_new_root(
    device: TrustDevice, repository: Repository
) -> None:
    honest, keys = copy.deepcopy(repository.roles), dict(repository.keys)
    repository.rotate_root("root", "targets", signing=online_keys(repository))
    assert refused(device, repository.files) == Refusal.BAD_SIGNATURE
    repository.keys = keys
    recover(device, repository, honest)


def test_a_release_key_can_not_sign_for_another_model(
    device: TrustDevice, repository: Repository
) -> None:
    repository.add_model("pump")
    path = manifest.target_path("digits", "6.6.6")
    repository.roles["model-pump"].signed.targets[path] = TargetFile.from_data(
        path, EVIL, ["sha256"]
    )
    repository.publish("targets", "model-pump")
    device.models = frozenset({"digits", "pump"})
    trusted = device.update(repository.files)
    assert trusted.manifest_target("digits", "6.6.6", now=NOW) is None
    device.assert_updates(repository)


def test_one_stolen_root_key_is_below_the_threshold(
    device: TrustDevice, repository: Repository
) -> None:
    stolen = repository.keys["root"][:1]
    honest = repository.keys["root"]
    before = copy.deepcopy(repository.roles["root"])
    repository.keys["root"] = [*stolen, *signers(2)]
    repository.rotate_root("targets", signing=[*stolen, *repository.keys["root"][1:]])
    assert refused(device, repository.files) == Refusal.BAD_SIGNATURE
    repository.keys["root"] = honest
    repository.roles["root"] = before
    repository.rotate_root("targets")
    repository.publish("targets")
    device.assert_updates(repository)


def test_one_of_two_release_keys_is_below_the_threshold(
    device: TrustDevice, repository: Repository
) -> None:
    both = signers(2)
    repository.thresholds["model-digits"] = 2
    repository.keys["model-digits"] = both
    repository.delegate("model-digits", ["digits/*/manifest.json"])
    repository.publish("targets", "model-digits")
    device.update(repository.files)
    repository.keys["model-digits"] = both[:1]
    repository.release("digits", "6.6.6")
    trusted = device.update(repository.files)
    with pytest.raises(TrustRefused) as caught:
        trusted.manifest_target("digits", "6.6.6", now=NOW)
    assert caught.value.refusal == Refusal.BAD_SIGNATURE
    repository.keys["model-digits"] = both
    device.assert_updates(repository)


def test_a_new_root_signed_only_by_itself_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    honest = repository.keys["root"]
    before = copy.deepcopy(repository.roles["root"])
    repository.keys["root"] = signers(3)
    repository.rotate_root("targets", signing=repository.keys["root"])
    assert refused(device, repository.files) == Refusal.BAD_SIGNATURE
    repository.keys["root"] = honest
    repository.roles["root"] = before
    repository.rotate_root("targets")
    repository.publish("targets")
    device.assert_updates(repository)


@pytest.mark.parametrize("stem", ["targets", "model-digits"])
def test_rollback_of_a_role_by_stolen_snapshot_and_timestamp_keys_is_refused(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    repository.publish("targets", "model-digits")
    device.update(repository.files)
    honest = copy.deepcopy(repository.roles)
    repository.roles["snapshot"].signed.meta[f"{stem}.json"] = MetaFile(1)
    repository.publish()
    assert refused(device, repository.files) == Refusal.METADATA_ROLLBACK
    recover(device, repository, honest)


def test_rollback_of_the_snapshot_by_a_stolen_timestamp_key_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    timestamp = repository.roles["timestamp"]
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = MetaFile(1)
    repository.files["timestamp.json"] = repository.signed(timestamp, repository.keys["timestamp"])
    assert refused(device, repository.files) == Refusal.METADATA_ROLLBACK
    recover(device, repository, honest)


def test_a_role_removed_from_the_snapshot_is_refused(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    del repository.roles["snapshot"].signed.meta["model-digits.json"]
    repository.publish()
    assert refused(device, repository.files) == Refusal.METADATA_INVALID
    recover(device, repository, honest)


@pytest.mark.parametrize("version", [FAR, 2**40])
def test_fast_forward_of_the_timestamp_is_undone_by_a_new_root(
    device: TrustDevice, repository: Repository, version: int
) -> None:
    honest = copy.deepcopy(repository.roles)
    repository.roles["timestamp"].signed.version = version
    repository.publish()
    device.update(repository.files)
    repository.roles = copy.deepcopy(honest)
    repository.publish()
    assert refused(device, repository.files) == Refusal.METADATA_ROLLBACK
    recover(device, repository, honest)


@pytest.mark.parametrize("stem", ["targets", "model-digits"])
def test_fast_forward_of_a_role_by_stolen_online_keys_is_undone_by_a_new_root(
    device: TrustDevice, repository: Repository, stem: str
) -> None:
    honest = copy.deepcopy(repository.roles)
    repository.roles["snapshot"].signed.meta[f"{stem}.json"] = MetaFile(FAR)
    repository.publish()
    if stem == "targets":
        assert refused(device, repository.files) == Refusal.METADATA_MISSING
    else:
        assert "digits" in device.update(repository.files).refused
    recover(device, repository, honest)


def test_fast_forward_of_the_snapshot_is_undone_by_a_new_root(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    repository.roles["snapshot"].signed.version = FAR
    repository.publish()
    device.update(repository.files)
    recover(device, repository, honest)


def test_a_revoked_timestamp_key_stays_revoked_when_everything_after_the_root_is_withheld(
    device: TrustDevice, repository: Repository
) -> None:
    before = dict(repository.files)
    repository.rotate_root("timestamp")
    repository.publish()
    withheld = before | {"2.root.json": repository.files["2.root.json"]}
    assert refused(device, withheld) == Refusal.BAD_SIGNATURE
    device.restart()
    assert device.store.versions()["root"] == 2
    assert refused(device, before) == Refusal.BAD_SIGNATURE
    device.assert_updates(repository)


def test_a_revoked_targets_key_stays_revoked_when_the_snapshot_is_withheld(
    device: TrustDevice, repository: Repository
) -> None:
    repository.rotate_root("targets")
    repository.publish("targets")
    files = dict(repository.files)
    del files[f"{repository.roles['snapshot'].signed.version}.snapshot.json"]
    assert refused(device, files) == Refusal.METADATA_MISSING
    device.restart()
    assert device.store.trusted() is None
    device.assert_updates(repository)


def test_a_revoked_release_key_can_sign_nothing_more(
    device: TrustDevice, repository: Repository
) -> None:
    stolen = repository.keys["model-digits"]
    repository.rotate_delegated("model-digits")
    device.update(repository.files)
    honest = copy.deepcopy(repository.roles)
    lay(repository, "model-digits", evil_targets(repository), stolen)
    trusted = device.update(repository.files)
    with pytest.raises(TrustRefused) as caught:
        trusted.manifest_target("digits", "6.6.6", now=NOW)
    assert caught.value.refusal == Refusal.BAD_SIGNATURE
    recover(device, repository, honest)


def test_a_signature_counted_twice_is_still_one(
    device: TrustDevice, repository: Repository
) -> None:
    honest, keys = copy.deepcopy(repository.roles), dict(repository.keys)
    stolen = keys["root"][0]
    repository.keys["root"] = [stolen, *signers(2)]
    repository.rotate_root("targets", signing=[stolen])
    forged = json.loads(repository.files["2.root.json"])
    forged["signatures"] *= 2
    repository.files["2.root.json"] = json.dumps(forged).encode()
    assert refused(device, repository.files) == Refusal.METADATA_INVALID
    repository.keys = keys
    recover(device, repository, honest)


def test_withheld_releases_are_all_a_thief_of_the_online_keys_achieves(
    device: TrustDevice, repository: Repository
) -> None:
    honest = copy.deepcopy(repository.roles)
    for _ in range(3):
        repository.publish()
        trusted = device.update(repository.files, RIGHT)
        assert trusted.manifest_target("digits", "1.1.0", now=NOW)
        assert trusted.manifest_target("digits", "6.6.6", now=NOW) is None
    recover(device, repository, honest)
