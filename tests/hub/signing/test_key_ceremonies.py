"""Changing who may sign, each change judged by a device that follows the catalogue throughout."""

from pathlib import Path

import pytest

from muster_agent.trust.mirror import TrustMirror
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import BUILD_TIME, DAY_SECONDS, ClockReading
from muster_agent.trust.trusted import Trusted, TrustRefused
from muster_hub.alerts import rules
from muster_hub.errors import CatalogueError, ConfigError, NotFound
from muster_hub.signing import keys, roles
from muster_hub.signing.catalogue import Catalogue
from muster_hub.signing.directives import DirectiveSigner
from muster_protocol.wire.directive import Directive, DirectiveRefused, Goal, Slot
from support.hub_kit import API, open_kit

NOW = float(BUILD_TIME + DAY_SECONDS)


class Vault:
    """Keys on other machines, by the name of their holder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self, *names: str, threshold: int | None = None) -> keys.KeyGroup:
        made = []
        for name in names:
            path = self.directory / name
            made.append(
                keys.load_public(path.with_name(f"{name}.pub"))
                if path.exists()
                else keys.generate(path)
            )
        return keys.group(made, threshold)

    def sign(self, catalogue: Catalogue, *names: str) -> None:
        """Each holder signs everything that waits; a signature that isn't asked for counts not."""
        for name in names:
            for draft in catalogue.pending().values():
                signer = keys.load_signer(self.directory / name)
                try:
                    catalogue.add_signatures(roles.add_signature(draft, signer), NOW)
                except CatalogueError as gone:
                    assert "nothing that waits" in str(gone)  # noqa: PT017 - complete by now


class Device:
    """Believes the hub's files after each change."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        directory.mkdir()
        (directory / "root.json").write_bytes(catalogue.factory_root())
        self._catalogue = catalogue
        self.store = TrustStore(directory)

    def follow(self) -> Trusted:
        files = self._catalogue.files_to_publish()
        mirror = TrustMirror(self.store.versions(), frozenset({"digits"}), now=0.0)
        while fresh := (mirror.wanted() & files.keys()) - mirror.files.keys():
            for name in fresh:
                mirror.put(name, files[name], 0.0)
        return self.store.refresh(
            mirror.files, mirror.models, ClockReading(NOW + DAY_SECONDS, "synchronised")
        )

    def may_install(self, version: str) -> bool:
        return self.follow().manifest_target("digits", version, now=int(NOW)) is not None


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def catalogue(tmp_path: Path, vault: Vault) -> Catalogue:
    """Root 2 of 3, targets and release by one key each; version 1 released."""
    offline: dict[keys.Role, keys.KeyGroup] = {
        "root": vault.make("ann", "bob", "cy"),
        "targets": vault.make("tess"),
        "release": vault.make("rick"),
    }
    made = Catalogue(tmp_path / "tuf", keys.create_keyring(tmp_path / "keys", offline))
    made.create(NOW)
    vault.sign(made, "ann", "cy", "tess")
    made.release("digits", "1", b"{1}", NOW)
    vault.sign(made, "tess", "rick")
    assert not made.pending()
    return made


@pytest.fixture
def device(tmp_path: Path, catalogue: Catalogue) -> Device:
    made = Device(tmp_path / "device", catalogue)
    assert made.may_install("1")
    return made


def test_a_models_first_release_needs_as_many_people_as_any(tmp_path: Path, vault: Vault) -> None:
    offline: dict[keys.Role, keys.KeyGroup] = {
        "root": vault.make("ann"),
        "targets": vault.make("tess"),
        "release": vault.make("rick", "rosa"),
    }
    catalogue = Catalogue(tmp_path / "tuf", keys.create_keyring(tmp_path / "keys", offline))
    catalogue.create(NOW)
    vault.sign(catalogue, "ann", "tess")
    catalogue.release("digits", "1", b"{1}", NOW)
    vault.sign(catalogue, "tess", "rick")
    assert catalogue.pending().keys() == {"model-digits"}
    vault.sign(catalogue, "rosa")
    assert not catalogue.pending()
    assert Device(tmp_path / "device", catalogue).may_install("1")


def names(vault: Vault, *holders: str) -> set[str]:
    return set(vault.make(*holders).ids)


def test_more_than_half_must_sign_unless_said_otherwise(vault: Vault) -> None:
    assert vault.make("a").threshold == 1
    assert vault.make("a", "b").threshold == 2
    assert vault.make("a", "b", "c").threshold == 2
    assert vault.make("a", "b", threshold=1).threshold == 1


@pytest.mark.parametrize(("count", "threshold"), [(1, 2), (2, 0), (0, 0), (17, 1)])
def test_a_group_that_can_never_sign_is_refused(vault: Vault, count: int, threshold: int) -> None:
    with pytest.raises(ConfigError, match="can't be asked for"):
        vault.make(*(f"k{number}" for number in range(count)), threshold=threshold)


def test_the_same_key_twice_is_not_two_people(vault: Vault) -> None:
    key = vault.make("a").keys[0]
    with pytest.raises(ConfigError, match="counts once"):
        keys.group([key, key], 2)


def test_two_people_approve_a_release_and_one_does_not_suffice(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.set_keys("model-digits", vault.make("rick", "rita"), NOW)
    vault.sign(catalogue, "tess", "rick", "rita")
    assert not catalogue.pending()
    assert not catalogue.release("digits", "2", b"{2}", NOW)
    vault.sign(catalogue, "rick", "rick")
    (waiting,) = catalogue.waiting()["model-digits"]
    assert (len(waiting.signed), waiting.threshold) == (1, 2)
    assert set(waiting.signed) == names(vault, "rick")
    assert set(waiting.unsigned) == names(vault, "rita")
    assert not device.may_install("2")
    vault.sign(catalogue, "rita")
    assert device.may_install("2")


def test_a_lost_root_key_is_replaced_by_the_other_two(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.set_keys("root", vault.make("ann", "bob", "dora"), NOW)
    vault.sign(catalogue, "bob")
    assert catalogue.waiting().keys() == {"root"}
    vault.sign(catalogue, "ann")
    assert not catalogue.pending()
    assert device.may_install("1")
    assert device.store.versions()["root"] == 2
    catalogue.set_keys("root", vault.make("ann", "dora", "eve"), NOW)
    vault.sign(catalogue, "cy", "dora")
    assert catalogue.pending(), "cy's key was withdrawn"
    vault.sign(catalogue, "ann")
    assert device.follow().versions["root"] == 3


def test_all_root_keys_change_at_once_when_old_and_new_ones_sign(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.set_keys("root", vault.make("x", "y", "z"), NOW)
    groups = catalogue.waiting()["root"]
    assert [group.threshold for group in groups] == [2, 2]
    vault.sign(catalogue, "x", "y", "z")
    assert device.follow().versions["root"] == 1
    vault.sign(catalogue, "ann", "bob")
    assert device.follow().versions["root"] == 2


def test_the_targets_key_is_replaced_without_a_moment_of_broken_trust(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.set_keys("targets", vault.make("tom"), NOW)
    vault.sign(catalogue, "ann", "bob")
    assert device.may_install("1"), "the root waits for the targets it would strand"
    assert device.store.versions()["root"] == 1
    vault.sign(catalogue, "tom")
    assert not catalogue.pending()
    assert device.may_install("1")
    assert device.store.versions()["root"] == 2
    catalogue.release("fans", "1", b"{}", NOW)
    vault.sign(catalogue, "tess")
    assert "targets" in catalogue.pending()


def test_a_stolen_release_key_is_withdrawn_and_signs_nothing_more(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.set_keys("release", vault.make("rosa"), NOW)
    vault.sign(catalogue, "tess")
    assert device.may_install("1"), "targets wait for the role they would strand"
    vault.sign(catalogue, "rosa")
    assert device.may_install("1")
    catalogue.release("digits", "2", b"{2}", NOW)
    vault.sign(catalogue, "rick")
    assert not device.may_install("2")
    vault.sign(catalogue, "rosa")
    assert device.may_install("2")
    catalogue.release("fans", "1", b"{}", NOW)
    assert {key for item in catalogue.waiting()["model-fans"] for key in item.unsigned} == names(
        vault, "rosa"
    )


def test_what_the_withdrawn_key_signs_with_stolen_online_keys_is_refused(
    tmp_path: Path, catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    stale = (tmp_path / "tuf" / "2.model-digits.json", tmp_path / "tuf" / "1.model-digits.json")
    catalogue.set_keys("model-digits", vault.make("rosa"), NOW)
    vault.sign(catalogue, "tess", "rosa")
    device.follow()
    stale[0].write_bytes(stale[1].read_bytes())
    fresh = Device(tmp_path / "fresh", catalogue)
    refused = fresh.follow()
    with pytest.raises(TrustRefused):
        refused.manifest_target("digits", "1", now=int(NOW))


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_the_hubs_own_keys_rotate_and_the_old_ones_are_deleted(
    tmp_path: Path, catalogue: Catalogue, device: Device, vault: Vault, role: str
) -> None:
    catalogue.rotate_online(role, NOW)
    assert device.may_install("1")
    catalogue.refresh(NOW)
    assert (tmp_path / "keys" / f"{role}.pem").exists(), "still in force"
    vault.sign(catalogue, "ann", "bob")
    assert device.may_install("1")
    assert device.store.versions()["root"] == 2
    catalogue.refresh(NOW)
    assert not (tmp_path / "keys" / f"{role}.pem").exists()
    catalogue.refresh(NOW + 6 * DAY_SECONDS)
    assert device.may_install("1")


def directive(catalogue: Catalogue) -> bytes:
    goal = Goal(model="digits", version="1", manifest="a" * 64, manifest_bytes=3)
    return DirectiveSigner(catalogue.director).sign(
        Directive(
            device="cam-1", epoch=catalogue.director_epoch, generation=7, issued=int(NOW),
            expires=int(NOW) + DAY_SECONDS, slots={"main": Slot(champion=goal)},
        )
    )  # fmt: skip


def test_directives_are_signed_by_the_old_director_until_the_new_one_is_signed_for(
    tmp_path: Path, catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    old = directive(catalogue)
    catalogue.rotate_online("director", NOW)
    assert device.follow().verify_directive(directive(catalogue)).generation == 7
    vault.sign(catalogue, "tess")
    trusted = device.follow()
    assert trusted.verify_directive(directive(catalogue)).generation == 7
    with pytest.raises(DirectiveRefused):
        trusted.verify_directive(old)
    catalogue.refresh(NOW)
    assert not (tmp_path / "keys" / "director.pem").exists()


def test_a_crash_between_the_new_root_and_what_it_seals_is_made_good(
    tmp_path: Path, catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.rotate_online("timestamp", NOW)
    before = (tmp_path / "tuf" / "timestamp.json").read_bytes()
    vault.sign(catalogue, "ann", "bob")
    (tmp_path / "tuf" / "timestamp.json").write_bytes(before)
    with pytest.raises(TrustRefused):
        device.follow()
    assert catalogue.refresh(NOW)
    assert device.may_install("1")


def test_a_new_epoch_waits_for_the_targets_key(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.new_epoch(NOW)
    assert catalogue.director_epoch == device.follow().director_epoch == 1
    vault.sign(catalogue, "tess")
    assert catalogue.director_epoch == device.follow().director_epoch == 2


def test_a_retired_model_leaves_a_tombstone_that_devices_follow(
    catalogue: Catalogue, device: Device, vault: Vault
) -> None:
    catalogue.release("digits", "2", b"{2}", NOW)
    vault.sign(catalogue, "rick")
    plan = catalogue.retire("digits", None, NOW)
    assert "no version may be installed" in plan["model-digits"]
    vault.sign(catalogue, "rick")
    assert not device.may_install("1")
    assert not device.may_install("2")
    assert "model-digits" in device.store.versions()
    catalogue.release("digits", "3", b"{3}", NOW)
    vault.sign(catalogue, "rick")
    assert device.may_install("3")
    with pytest.raises(NotFound, match="retired already"):
        catalogue.retire("digits", "1", NOW)


def test_a_dry_run_says_what_would_be_signed_and_changes_nothing(
    tmp_path: Path, catalogue: Catalogue, vault: Vault
) -> None:
    def everything() -> dict[str, bytes]:
        found = [*(tmp_path / "tuf").rglob("*.json"), *(tmp_path / "keys").rglob("*")]
        return {str(path): path.read_bytes() for path in found if path.is_file()}

    group = vault.make("rosa", "rita")
    before = everything()
    assert catalogue.set_keys("root", group, NOW, dry_run=True).keys() == {"root"}
    assert catalogue.set_keys("targets", group, NOW, dry_run=True).keys() == {"root", "targets"}
    plan = catalogue.set_keys("release", group, NOW, dry_run=True)
    assert plan.keys() == {"targets", "model-digits"}
    assert f"model-digits to 2 of {group.ids[0][:8]}, {group.ids[1][:8]}" in plan["targets"]
    assert catalogue.rotate_online("director", NOW, dry_run=True).keys() == {"targets"}
    assert catalogue.rotate_online("snapshot", NOW, dry_run=True).keys() == {"root"}
    assert "director epoch 2" in catalogue.new_epoch(NOW, dry_run=True)["targets"]
    assert catalogue.retire("digits", "1", NOW, dry_run=True).keys() == {"model-digits"}
    assert everything() == before


def test_a_role_that_is_not_there_is_named(catalogue: Catalogue, vault: Vault) -> None:
    with pytest.raises(NotFound, match="model-digits"):
        catalogue.set_keys("model-fans", vault.make("rosa"), NOW)
    with pytest.raises(CatalogueError, match="not an online role"):
        catalogue.rotate_online("root", NOW)


def test_an_encrypted_key_signs_with_its_password_only(tmp_path: Path) -> None:
    keys.generate(tmp_path / "key", b"correct horse")
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    assert keys.is_encrypted(tmp_path / "key")
    assert keys.load_signer(tmp_path / "key", b"correct horse").public_key == keys.load_public(
        tmp_path / "key.pub"
    )
    with pytest.raises(ConfigError, match="is encrypted"):
        keys.load_signer(tmp_path / "key")
    with pytest.raises(ConfigError, match="password is wrong"):
        keys.load_signer(tmp_path / "key", b"wrong horse")
    with pytest.raises(ConfigError, match="empty password"):
        keys.generate(tmp_path / "other", b"")


def test_the_api_shows_who_has_signed_and_until_when_all_is_good(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    offline = {
        "root": vault.make("ann", "bob"), "targets": vault.make("tess"),
        "release": vault.make("rick"),
    }  # fmt: skip
    kit = open_kit(tmp_path, offline_public=offline)
    try:
        kit.hub.keyring.put_names({offline["root"].ids[0]: "ann"})
        for draft in kit.hub.catalogue.pending().values():
            signed = roles.add_signature(draft, keys.load_signer(tmp_path / "vault" / "ann"))
            kit.hub.catalogue.add_signatures(signed, NOW)
        answer = kit.http.get(f"{API}/signatures", headers=kit.as_("viewer")).json()
        (group,) = answer["waiting"]["root"]
        assert group["threshold"] == 2
        assert group["signed"] == [{"id": offline["root"].ids[0], "name": "ann"}]
        assert [key["id"] for key in group["may_sign"]] == [offline["root"].ids[1]]
        assert answer["roles"] == {}
        vault.sign(kit.hub.catalogue, "bob", "tess")
        answer = kit.http.get(f"{API}/signatures", headers=kit.as_("viewer")).json()
        assert answer["waiting"] == {}
        assert answer["roles"].keys() == {"root", "targets", "snapshot", "timestamp", "director"}
        assert answer["roles"]["root"]["threshold"] == 2
        assert answer["roles"]["timestamp"]["expires"] > NOW
    finally:
        kit.close()


def test_what_nears_its_end_becomes_an_alert_before_it_hurts() -> None:
    day = rules.DAY_SECONDS
    assert rules.certificate_ending("cam-1", 61 * day) is None
    assert rules.certificate_ending("cam-1", 59 * day).severity == "warning"
    assert rules.certificate_ending("cam-1", -day).severity == "critical"
    assert rules.metadata_ending("timestamp", 3 * day) is None
    assert "see its log" in rules.metadata_ending("timestamp", day).title
    assert rules.metadata_ending("model-digits", 100 * day) is None
    ending = rules.metadata_ending("model-digits", 80 * day)
    assert "signing-request" in ending.title
    assert ending.severity == "warning"
    assert rules.metadata_ending("root", 10 * day).severity == "critical"
    assert "no device installs" in rules.metadata_ending("snapshot", -1).title
