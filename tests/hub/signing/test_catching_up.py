"""A hub that was set back goes on from metadata that a device shows, signed by its own keys."""

import shutil
from pathlib import Path

import pytest

from muster_hub.errors import CatalogueError
from muster_hub.signing import catching_up, keys
from muster_hub.signing.catalogue import Catalogue

NOW = 4_000_000_000.0
MANIFEST = b'{"format":1}'


class SetBack:
    """A hub restored to an earlier day, and what a device holds of the later one."""

    def __init__(self, directory: Path, releases: int) -> None:
        keyring = keys.create_keyring(directory / "keys", None)
        lived = Catalogue(directory / "lived", keyring)
        lived.create(NOW)
        lived.release("digits", "0", MANIFEST, NOW)
        shutil.copytree(directory / "lived", directory / "tuf")
        for number in range(1, releases + 1):
            lived.release("digits", str(number), MANIFEST, NOW)
        self.shown = files_of(lived)
        self.catalogue = Catalogue(directory / "tuf", keyring)

    def follow(self) -> bool:
        return self.catalogue.catch_up("cam-1", *self.shown, NOW)


def files_of(catalogue: Catalogue) -> tuple[bytes, bytes]:
    files = catalogue.files_to_publish()
    snapshot = next(data for name, data in files.items() if name.endswith(".snapshot.json"))
    return files["timestamp.json"], snapshot


def versions_of(catalogue: Catalogue) -> dict[str, int]:
    return {
        name.removesuffix(".json").rpartition(".")[2]: int(name.partition(".")[0])
        for name in catalogue.files_to_publish()
        if name != "timestamp.json"
    }


def test_it_goes_on_above_every_version_that_is_shown_and_says_so(tmp_path):
    hub = SetBack(tmp_path, releases=5)
    behind = versions_of(hub.catalogue)
    assert hub.follow()
    after = versions_of(hub.catalogue)
    assert after["model-digits"] == behind["model-digits"] + 6
    assert after["snapshot"] > behind["snapshot"] + 5
    latest = hub.catalogue.caught_up()
    assert latest is not None
    assert (latest.device, latest.at) == ("cam-1", NOW)
    assert not hub.follow(), "once is enough"


def test_another_hubs_metadata_move_nothing(tmp_path):
    hub = SetBack(tmp_path / "a", releases=0)
    other = SetBack(tmp_path / "b", releases=5)
    before = hub.catalogue.files_to_publish()
    with pytest.raises(CatalogueError, match="not signed by this hub's keys"):
        hub.catalogue.catch_up("cam-1", *other.shown, NOW)
    assert hub.catalogue.files_to_publish() == before
    assert hub.catalogue.caught_up() is None


def test_a_timestamp_with_another_snapshot_moves_nothing(tmp_path):
    hub = SetBack(tmp_path, releases=5)
    _, snapshot = files_of(hub.catalogue)
    with pytest.raises(CatalogueError, match="another snapshot"):
        hub.catalogue.catch_up("cam-1", hub.shown[0], snapshot, NOW)


def test_how_far_it_ever_follows_is_capped_in_total(tmp_path):
    record = catching_up.Record(tmp_path)
    most = catching_up.LEAP_TOTAL_MAX
    for _ in range(2):
        leaps = {"timestamp": most // 2}
        record.allow(leaps)
        record.add(leaps, catching_up.CaughtUp(NOW, "cam-1", {"timestamp": 1}))
    with pytest.raises(CatalogueError, match="in other hands"):
        record.allow({"timestamp": 1})
    record.allow({"snapshot": 1})
    with pytest.raises(CatalogueError):
        catching_up.Record(tmp_path).allow({"timestamp": 1})


def test_a_claim_says_which_versions_were_never_given_out(tmp_path):
    hub = SetBack(tmp_path, releases=0)
    own = versions_of(hub.catalogue)
    claimed = {"snapshot": own["snapshot"] + 1, "targets": own["targets"], "root": 99, "x": 3}
    assert hub.catalogue.ahead(claimed) == {"snapshot": own["snapshot"]}
