"""The catalogue and the directives, read by the same client library that devices use."""

import json
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater

from muster_hub.errors import CatalogueError, ConfigError
from muster_hub.signing import keys, roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_protocol.wire import directive, limits
from muster_protocol.wire.directive import Directive, Goal, Slot
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.maintenance import MaintenanceWindow
from muster_protocol.wire.metadata import DIRECTOR_EPOCH_FIELD, ISSUED_FIELD

NOW = 4_000_000_000.0
"""Ahead of the machine's clock, which the client library judges expiry by."""
MANIFEST = b'{"format":1}'
DAY = 86_400


class Mirror(FetcherInterface):
    """Serves published files from memory."""

    def __init__(self, files):
        self.files = files

    def _fetch(self, url):
        name = unquote(url.rsplit("/", 1)[1])
        if name not in self.files:
            raise DownloadHTTPError(f"{name} is absent", 404)
        return iter([self.files[name]])


def device(tmp_path: Path, catalogue: Catalogue, name="device") -> Updater:
    directory = tmp_path / name
    directory.mkdir(exist_ok=True)
    return Updater(
        str(directory),
        "https://mirror.invalid/",
        target_base_url="https://mirror.invalid/",
        fetcher=Mirror(catalogue.files_to_publish()),
        bootstrap=catalogue.factory_root(),
    )


@pytest.fixture
def keyring(tmp_path):
    return keys.create_keyring(tmp_path / "keys", None)


@pytest.fixture
def catalogue(tmp_path, keyring):
    made = Catalogue(tmp_path / "tuf", keyring)
    made.create(NOW)
    return made


def test_a_device_finds_a_released_manifest(tmp_path, catalogue):
    assert catalogue.release("digits", "1", MANIFEST, NOW)
    target = device(tmp_path, catalogue).get_targetinfo("digits/1/manifest.json")
    assert target is not None
    target.verify_length_and_hashes(MANIFEST)


def test_a_device_finds_no_manifest_that_was_not_released(tmp_path, catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    updater = device(tmp_path, catalogue)
    assert updater.get_targetinfo("digits/2/manifest.json") is None
    assert updater.get_targetinfo("other/1/manifest.json") is None


def test_leaves_are_published_before_what_names_them_and_the_timestamp_last(catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    assert list(catalogue.files_to_publish()) == [
        "1.model-digits.json", "2.targets.json", "2.snapshot.json", "1.root.json", "timestamp.json",
    ]  # fmt: skip


def test_releasing_a_second_version_leaves_targets_alone(tmp_path, catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    before = catalogue.files_to_publish()
    catalogue.release("digits", "2", b"{}", NOW)
    files = catalogue.files_to_publish()
    assert "2.targets.json" in files
    assert files["2.targets.json"] == before["2.targets.json"]
    updater = device(tmp_path, catalogue)
    assert updater.get_targetinfo("digits/1/manifest.json") is not None
    assert updater.get_targetinfo("digits/2/manifest.json") is not None


def test_the_same_release_twice_changes_nothing(catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    before = catalogue.files_to_publish()
    assert catalogue.release("digits", "1", MANIFEST, NOW + 60)
    assert catalogue.files_to_publish() == before


def test_a_released_version_can_never_get_other_content(catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    with pytest.raises(CatalogueError, match="released with other content"):
        catalogue.release("digits", "1", b"{}", NOW)


def test_a_retired_version_is_no_longer_found(tmp_path, catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    catalogue.retire("digits", "1", NOW)
    assert device(tmp_path, catalogue).get_targetinfo("digits/1/manifest.json") is None
    assert not catalogue.is_released("digits", "1", "0" * 64)


def test_a_device_follows_the_catalogue_from_version_to_version(tmp_path, catalogue):
    for version in range(1, 6):
        catalogue.release("digits", str(version), b"%d" % version, NOW)
        updater = device(tmp_path, catalogue)
        assert updater.get_targetinfo(f"digits/{version}/manifest.json") is not None


def test_every_role_carries_its_issue_time(catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    for data in catalogue.files_to_publish().values():
        assert json.loads(data)["signed"][ISSUED_FIELD] == int(NOW)


def test_the_director_is_delegated_without_any_path(catalogue):
    data = catalogue.files_to_publish()["1.targets.json"]
    targets = Metadata[Targets].from_bytes(data).signed
    assert targets.delegations.roles["director"].paths == []
    assert json.loads(data)["signed"][DIRECTOR_EPOCH_FIELD] == catalogue.director_epoch == 1


def test_a_models_role_speaks_of_that_model_alone(catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    data = catalogue.files_to_publish()["2.targets.json"]
    role = Metadata[Targets].from_bytes(data).signed.delegations.roles["model-digits"]
    paths = ["digits/2/manifest.json", "faces/1/manifest.json", "digits/1/model.onnx"]
    assert [role.is_delegated_path(path) for path in paths] == [True, False, False]


def test_the_timestamp_is_signed_anew_before_it_expires_and_only_then(catalogue):
    before = catalogue.files_to_publish()
    assert not catalogue.refresh(NOW + DAY)
    assert catalogue.files_to_publish() == before
    assert catalogue.refresh(NOW + 3 * DAY)
    after = catalogue.files_to_publish()
    assert set(after) == set(before)
    assert json.loads(after["timestamp.json"])["signed"]["version"] == 2


def test_a_year_of_refreshing_never_leaves_anything_expired(tmp_path, catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    for day in range(1, 900, 2):
        now = NOW + day * DAY
        catalogue.refresh(now)
        for name, data in catalogue.files_to_publish().items():
            metadata = Metadata.from_bytes(data).signed
            assert metadata.expires.timestamp() > now, name
    assert device(tmp_path, catalogue).get_targetinfo("digits/1/manifest.json") is not None


def test_a_restored_hub_continues_from_the_versions_devices_hold(tmp_path, catalogue):
    catalogue.release("digits", "1", MANIFEST, NOW)
    reported = {"timestamp": 40, "snapshot": 30, "targets": 9, "model-digits": 12, "model-x": 3}
    assert catalogue.continue_from(reported, NOW)
    files = catalogue.files_to_publish()
    assert {"13.model-digits.json", "10.targets.json", "31.snapshot.json"} <= set(files)
    assert json.loads(files["timestamp.json"])["signed"]["version"] == 41
    assert not catalogue.continue_from(reported, NOW)
    assert device(tmp_path, catalogue).get_targetinfo("digits/1/manifest.json") is not None


def test_no_device_can_use_up_the_range_of_versions(catalogue):
    before = catalogue.files_to_publish()
    assert not catalogue.continue_from({"timestamp": 2**52, "root": 7}, NOW)
    assert catalogue.files_to_publish() == before


def test_a_crash_before_the_timestamp_publishes_nothing(tmp_path, keyring, catalogue):
    before = catalogue.files_to_publish()
    (tmp_path / "tuf" / "1.model-digits.json").write_bytes(b"half a role")
    (tmp_path / "tuf" / "2.snapshot.json").write_bytes(b"half a snapshot")
    assert catalogue.files_to_publish() == before
    assert Catalogue(tmp_path / "tuf", keyring).release("digits", "1", MANIFEST, NOW)
    assert device(tmp_path, catalogue).get_targetinfo("digits/1/manifest.json") is not None


def test_a_second_catalogue_is_never_made_over_the_first(catalogue):
    with pytest.raises(CatalogueError, match="already holds a catalogue"):
        catalogue.create(NOW)


# Keys kept elsewhere


@pytest.fixture
def vault(tmp_path):
    """Keys made on another machine; the hub gets the public halves."""
    return {role: keys.generate(tmp_path / "vault" / f"{role}.pem") for role in keys.OFFLINE}


@pytest.fixture
def remote(tmp_path, vault):
    made = Catalogue(tmp_path / "tuf", keys.create_keyring(tmp_path / "keys", vault))
    made.create(NOW)
    return made


def sign_all(tmp_path, catalogue):
    for role, draft in catalogue.pending().items():
        signer = keys.load_signer(tmp_path / "vault" / f"{roles.key_role(role)}.pem")
        catalogue.add_signatures(roles.add_signature(draft, signer), NOW)


def test_nothing_is_published_until_the_offline_keys_have_signed(tmp_path, remote):
    assert list(remote.pending()) == ["root", "targets"]
    assert remote.files_to_publish() == {}
    sign_all(tmp_path, remote)
    assert remote.pending() == {}
    assert not remote.release("digits", "1", MANIFEST, NOW)
    assert list(remote.pending()) == ["targets", "model-digits"]
    assert device(tmp_path, remote).get_targetinfo("digits/1/manifest.json") is None
    sign_all(tmp_path, remote)
    assert device(tmp_path, remote).get_targetinfo("digits/1/manifest.json") is not None


def test_releases_that_wait_together_are_signed_together(tmp_path, remote):
    sign_all(tmp_path, remote)
    remote.release("digits", "1", MANIFEST, NOW)
    remote.release("digits", "2", b"{}", NOW)
    sign_all(tmp_path, remote)
    updater = device(tmp_path, remote)
    assert updater.get_targetinfo("digits/1/manifest.json") is not None
    assert updater.get_targetinfo("digits/2/manifest.json") is not None


def test_a_signature_by_another_key_does_not_count(tmp_path, remote):
    sign_all(tmp_path, remote)
    remote.release("digits", "1", MANIFEST, NOW)
    keys.generate(tmp_path / "thief.pem")
    thief = keys.load_signer(tmp_path / "thief.pem")
    for draft in remote.pending().values():
        remote.add_signatures(roles.add_signature(draft, thief), NOW)
    assert list(remote.pending()) == ["targets", "model-digits"]


def test_signed_metadata_that_the_hub_did_not_draft_is_refused(tmp_path, remote):
    sign_all(tmp_path, remote)
    remote.release("digits", "1", MANIFEST, NOW)
    signer = keys.load_signer(tmp_path / "vault" / "release.pem")
    forged = Metadata.from_bytes(remote.pending()["model-digits"])
    forged.signed.targets["digits/unchecked/manifest.json"] = forged.signed.targets[
        "digits/1/manifest.json"
    ]
    forged.sign(signer)
    with pytest.raises(CatalogueError, match="nothing that waits"):
        remote.add_signatures(forged.to_bytes(), NOW)


@settings(max_examples=50)
@given(junk=st.binary(max_size=200))
def test_junk_offered_as_signed_metadata_is_refused_by_name(tmp_path_factory, junk):
    directory = tmp_path_factory.mktemp("catalogue")
    catalogue = Catalogue(directory / "tuf", keys.create_keyring(directory / "keys", None))
    with pytest.raises(CatalogueError, match="the signed metadata"):
        catalogue.add_signatures(junk, NOW)


# Keys


def test_private_keys_are_readable_by_their_owner_only(tmp_path, keyring):
    files = list((tmp_path / "keys").rglob("*.pem"))
    assert len(files) == 6
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_key_file_is_never_overwritten(tmp_path):
    keys.generate(tmp_path / "root.pem")
    with pytest.raises(ConfigError, match="never overwritten"):
        keys.generate(tmp_path / "root.pem")


def test_a_key_that_is_not_the_announced_one_is_refused(tmp_path, keyring):
    (tmp_path / "keys" / "director.pem").unlink()
    keys.generate(tmp_path / "keys" / "director.pem")
    with pytest.raises(ConfigError, match=r"director\.pem"):
        keyring.signer("director")


def test_a_private_key_given_for_a_public_one_is_explained(tmp_path):
    keys.generate(tmp_path / "root.pem")
    with pytest.raises(ConfigError, match=r"expected the \.pub file"):
        keys.load_public(tmp_path / "root.pem")


# Directives


def wanted(slots=1) -> Directive:
    goal = Goal(model="digits", version="1", manifest="a" * 64, manifest_bytes=100)
    return Directive(
        device="cam-1", epoch=1, generation=7, issued=10, expires=20,
        slots={f"slot-{number}": Slot(champion=goal) for number in range(slots)},
    )  # fmt: skip


def test_a_directive_is_verified_through_the_targets_delegation(keyring, catalogue):
    data = DirectiveSigner(keyring.online_signer("director")).sign(wanted())
    envelope = Envelope.from_dict(json.loads(data))
    assert envelope.payload_type == directive.PAYLOAD_TYPE
    targets = Metadata[Targets].from_bytes(catalogue.files_to_publish()["1.targets.json"]).signed
    targets.verify_delegate("director", envelope.pae(), envelope.signatures)
    assert directive.decode(envelope.payload) == wanted()


def test_a_directive_too_large_for_a_device_is_not_signed(keyring):
    crowded = wanted(limits.SLOTS_MAX)
    slots = {
        name: Slot(champion=slot.champion, maintenance=(MaintenanceWindow("22:00", "04:00"),) * 8)
        for name, slot in crowded.slots.items()
    }
    with pytest.raises(LimitError, match="fewer slots"):
        DirectiveSigner(keyring.online_signer("director")).sign(
            msgspec.structs.replace(crowded, slots=slots)
        )


def test_the_director_is_opened_once_and_anew_when_another_process_rotates_it(tmp_path, keyring):
    here = Catalogue(tmp_path / "tuf", keyring)
    here.create(NOW)
    before, epoch = here.director(), here.director_epoch
    assert here.director() is before
    elsewhere = Catalogue(tmp_path / "tuf", keys.Keyring(tmp_path / "keys"))
    elsewhere.rotate_online("director", NOW)
    elsewhere.new_epoch(NOW)
    assert here.director().public_key.keyid == elsewhere.director().public_key.keyid
    assert here.director().public_key.keyid != before.public_key.keyid
    assert here.director_epoch == epoch + 1
