"""The trust client as any TUF client is judged: by its command line, over plain HTTP.

The cases are those that public conformance suites ask of a client: what it accepts, what it asks
the server for, and what it still trusts after each attack. Every refused case ends with an update
that must work.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.metadata import (
    MetaFile,
    Role,
    TargetFile,
)

from muster_agent.trust.time import DAY_SECONDS
from support.tuf_repository import Repository, moment, signers
from support.tuf_server import TufClient, TufServer

TOP = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]


@pytest.fixture
def repository() -> Repository:
    return Repository(models=(), now=int(time.time()))


@pytest.fixture
def server(repository: Repository) -> Iterator[TufServer]:
    with TufServer(repository.files) as served:
        yield served


@pytest.fixture
def client(tmp_path: Path, server: TufServer, repository: Repository) -> TufClient:
    """Initialised with the factory root."""
    made = TufClient(tmp_path, server)
    assert made.init(repository.factory_root) == 0
    return made


def recovers(client: TufClient, repository: Repository) -> None:
    """The honest repository publishes again, and the client follows."""
    repository.publish("targets")
    assert client.refresh() == 0
    assert client.version("targets") == repository.roles["targets"].signed.version


# Init and refresh


def test_a_first_refresh_asks_for_each_top_role_once(client: TufClient, server: TufServer) -> None:
    assert client.refresh() == 0
    assert server.asked == TOP
    assert client.versions() == (1, 1, 1, 1)


def test_a_refresh_without_news_asks_for_the_next_root_and_the_timestamp_only(
    client: TufClient, server: TufServer
) -> None:
    assert client.refresh() == 0
    assert client.refresh() == 0
    assert server.asked == ["2.root.json", "timestamp.json"]


def test_a_download_refreshes_first_even_when_the_artifact_does_not_exist(
    client: TufClient, server: TufServer
) -> None:
    assert client.download("no/such/thing") == 1
    assert server.asked == TOP
    assert client.versions() == (1, 1, 1, 1)


@pytest.mark.parametrize("spoil", ["no version", "bad signature", "not json"])
def test_a_first_root_that_is_not_one_is_refused_before_anything_is_asked(
    tmp_path: Path, server: TufServer, repository: Repository, spoil: str
) -> None:
    root = json.loads(repository.factory_root)
    if spoil == "no version":
        del root["signed"]["version"]
    for signature in root["signatures"]:
        signature["sig"] = "00" * 64
    client = TufClient(tmp_path, server)
    client.init(b"{" if spoil == "not json" else json.dumps(root).encode())
    assert client.refresh() == 1
    assert server.asked == []


def test_init_never_replaces_a_root(client: TufClient, repository: Repository) -> None:
    assert client.init(Repository(models=()).factory_root) == 1
    assert client.refresh() == 0


def test_unknown_fields_are_part_of_what_is_signed(
    client: TufClient, repository: Repository
) -> None:
    root = repository.roles["root"].signed
    root.unrecognized_fields["x-note"] = {"a": [1, None]}
    repository.rotate_root()
    root.roles["root"].unrecognized_fields["x-more"] = "b"
    root.version += 1
    repository.write("root")
    assert client.refresh() == 0
    assert client.version("root") == 3


def test_the_command_line_runs_as_a_process_of_its_own(
    client: TufClient, server: TufServer, repository: Repository
) -> None:
    command = [
        sys.executable, "-m", "muster_agent.trust.cli", "--metadata-dir", str(client.metadata),
        "--metadata-url", f"{server.url}/metadata", "refresh",
    ]  # fmt: skip
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    repository.files["timestamp.json"] = b"{}"
    refused = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


# Versions and contents


def lower(role: str) -> Callable[[Repository], None]:
    def attack(repository: Repository) -> None:
        signed = repository.roles[role].signed
        signed.version -= 1
        repository.write(role)
        if role == "targets":
            repository.roles["snapshot"].signed.version += 1
            repository.write("snapshot")
        if role != "timestamp":
            repository.roles["timestamp"].signed.version += 1
            repository.write("timestamp")

    return attack


def same_version_other_content(repository: Repository) -> None:
    repository.roles["timestamp"].signed.snapshot_meta = MetaFile(100)
    repository.write("timestamp")


def snapshot_of_another_version(repository: Repository) -> None:
    repository.roles["timestamp"].signed.version += 1
    repository.roles["timestamp"].signed.snapshot_meta = MetaFile(7)
    repository.write("timestamp")
    repository.files["7.snapshot.json"] = repository.files["2.snapshot.json"]


def targets_of_another_version(repository: Repository) -> None:
    repository.roles["snapshot"].signed.meta["targets.json"] = MetaFile(9)
    repository.files["9.targets.json"] = repository.files["2.targets.json"]
    repository.publish()


def snapshot_with_another_hash(repository: Repository) -> None:
    meta = MetaFile.from_data(3, b"something else", ["sha256"])
    repository.publish()
    repository.roles["timestamp"].signed.version += 1
    repository.roles["timestamp"].signed.snapshot_meta = meta
    repository.files["timestamp.json"] = repository.signed(
        repository.roles["timestamp"], repository.keys["timestamp"]
    )


def targets_with_another_hash(repository: Repository) -> None:
    repository.roles["targets"].signed.version += 1
    repository.write("targets")
    version = repository.roles["targets"].signed.version
    meta = MetaFile.from_data(version, b"something else", ["sha256"])
    repository.roles["snapshot"].signed.meta["targets.json"] = meta
    repository.publish()


def role_leaves_the_snapshot(repository: Repository) -> None:
    del repository.roles["snapshot"].signed.meta["targets.json"]
    repository.publish()


ATTACKS = {
    "timestamp rolled back": lower("timestamp"),
    "snapshot rolled back": lower("snapshot"),
    "targets rolled back": lower("targets"),
    "snapshot of another version": snapshot_of_another_version,
    "targets of another version": targets_of_another_version,
    "snapshot with another hash": snapshot_with_another_hash,
    "targets with another hash": targets_with_another_hash,
    "targets left the snapshot": role_leaves_the_snapshot,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_metadata_that_contradict_what_was_seen_are_refused(
    client: TufClient, repository: Repository, attack: Callable[[Repository], None]
) -> None:
    repository.publish("targets")
    assert client.refresh() == 0
    before = client.version("targets")
    attack(repository)
    assert client.refresh() == 1
    assert client.version("targets") == before
    snapshot, timestamp = repository.roles["snapshot"], repository.roles["timestamp"]
    snapshot.signed.version = timestamp.signed.version = 50
    repository.roles["targets"].signed.version = 50
    recovers(client, repository)


def test_a_timestamp_of_the_same_version_never_replaces_the_one_held(
    client: TufClient, repository: Repository
) -> None:
    assert client.refresh() == 0
    same_version_other_content(repository)
    client.refresh()
    held = json.loads((client.metadata / "timestamp.json").read_bytes())
    assert held["signed"]["meta"]["snapshot.json"]["version"] == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_fast_forward_is_undone_by_rotating_the_key(
    client: TufClient, repository: Repository, role: str
) -> None:
    repository.roles[role].signed.version = 99_999
    repository.publish()
    assert client.refresh() == 0
    repository.roles[role].signed.version = 1
    repository.roles["timestamp"].signed.version += 1
    repository.publish()
    assert client.refresh() == 1
    repository.rotate_root("timestamp", "snapshot")
    repository.publish()
    assert client.refresh() == 0
    assert client.version(role) == repository.roles[role].signed.version < 99_999


def test_a_root_that_skips_a_version_is_refused(client: TufClient, repository: Repository) -> None:
    root = repository.roles["root"].signed
    root.version = 3
    repository.files["2.root.json"] = repository.signed(
        repository.roles["root"], repository.keys["root"]
    )
    assert client.refresh() == 1
    assert client.version("root") == 1
    del repository.files["2.root.json"]
    root.version = 1
    recovers(client, repository)


# Keys and thresholds


def with_root(repository: Repository, keys: int, threshold: int) -> None:
    """The next root has ``keys`` new keys, and is signed by all old and all new ones."""
    old = repository.keys["root"]
    repository.keys["root"] = signers(keys)
    repository.thresholds["root"] = threshold
    repository.rotate_root(old=old)


@pytest.mark.parametrize(("keys", "threshold"), [(1, 1), (2, 2), (3, 2), (5, 5)])
def test_root_keys_rotate_to_any_number_and_threshold(
    client: TufClient, repository: Repository, keys: int, threshold: int
) -> None:
    with_root(repository, keys, threshold)
    with_root(repository, 3, 2)
    assert client.refresh() == 0
    assert client.version("root") == 3


@pytest.mark.parametrize("missing", ["old", "new"])
def test_a_root_without_enough_signatures_of_both_sides_is_refused(
    client: TufClient, repository: Repository, missing: str
) -> None:
    old = repository.keys["root"]
    repository.keys["root"] = signers(3)
    new = repository.keys["root"]
    signing = [*old[:1], *new] if missing == "old" else [*old, *new[:1]]
    repository.rotate_root(old=old, signing=signing)
    assert client.refresh() == 1
    assert client.version("root") == 1
    repository.write("root", [*old, *new])
    recovers(client, repository)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_one_key_that_signs_twice_is_one_signature(
    client: TufClient, repository: Repository, role: str
) -> None:
    repository.thresholds[role] = 2
    repository.keys[role] = signers(2)
    repository.rotate_root()
    repository.publish("targets")
    assert client.refresh() == 0
    repository.keys[role], both = repository.keys[role][:1], repository.keys[role]
    repository.publish("targets")
    assert client.refresh() == 1
    repository.keys[role] = both
    recovers(client, repository)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_rotated_key_signs_and_the_old_one_no_longer_does(
    client: TufClient, repository: Repository, role: str
) -> None:
    old = repository.keys[role]
    assert client.refresh() == 0
    repository.rotate_root(role)
    new = repository.keys[role]
    repository.publish("targets")
    assert client.refresh() == 0
    repository.keys[role] = old
    repository.publish("targets")
    assert client.refresh() == 1
    repository.keys[role] = new
    recovers(client, repository)


def test_a_role_may_be_signed_by_keys_listed_in_another_order(
    client: TufClient, repository: Repository
) -> None:
    repository.keys["targets"] = signers(4)
    repository.thresholds["targets"] = 3
    repository.rotate_root()
    root = repository.roles["root"].signed
    root.roles["targets"] = Role(list(reversed(root.roles["targets"].keyids)), 3)
    root.version += 1
    repository.write("root")
    repository.publish("targets")
    assert client.refresh() == 0


# Expiry


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_an_expired_role_is_refused_and_a_fresh_one_believed_again(
    client: TufClient, repository: Repository, role: str
) -> None:
    metadata = repository.roles[role].signed
    metadata.version += 1
    metadata.expires = moment(repository.now - DAY_SECONDS)
    repository.write(role)
    for dependent in ("snapshot", "timestamp"):
        if role not in {"root", "timestamp", dependent}:
            repository.roles[dependent].signed.version += 1
            repository.write(dependent)
    if role == "snapshot":
        repository.write("timestamp")
    assert client.refresh() == 1
    if role == "root":
        repository.rotate_root()
    recovers(client, repository)


def test_an_expired_root_on_the_way_is_passed_through(
    client: TufClient, repository: Repository
) -> None:
    root = repository.roles["root"].signed
    root.version, root.expires = 2, moment(repository.now - DAY_SECONDS)
    repository.write("root")
    repository.rotate_root()
    assert client.refresh() == 0
    assert client.version("root") == 3


# The server


@pytest.mark.parametrize("file", ["2.root.json", "timestamp.json", "2.snapshot.json"])
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_fails_is_not_an_absent_file(
    client: TufClient, server: TufServer, repository: Repository, file: str, status: int
) -> None:
    assert client.refresh() == 0
    repository.publish("targets")
    server.broken[file] = status
    assert client.refresh() == 1
    server.broken.clear()
    recovers(client, repository)


@pytest.mark.parametrize("file", ["2.root.json", "timestamp.json", "2.snapshot.json"])
def test_endless_metadata_are_cut_off(client: TufClient, repository: Repository, file: str) -> None:
    assert client.refresh() == 0
    repository.publish("targets")
    good = repository.files.get(file)
    repository.files[file] = b'{"signed":"' + b"x" * 700_000
    assert client.refresh() == 1
    del repository.files[file]
    if good is not None:
        repository.files[file] = good
    recovers(client, repository)


# Artifacts


def offer(repository: Repository, server: TufServer, path: str, data: bytes) -> None:
    target = TargetFile.from_data(path, data, ["sha256"])
    repository.roles["targets"].signed.targets[path] = target
    repository.publish("targets")
    server.offer(target, data)


@pytest.mark.parametrize("path", ["a", "a/b/c.txt", "odd name?#%2F", "../../escape", "ünïcode"])
def test_an_artifact_is_downloaded_once_and_stays_within_its_directory(
    client: TufClient, server: TufServer, repository: Repository, path: str
) -> None:
    offer(repository, server, path, b"content")
    assert client.download(path) == 0
    assert client.download(path) == 0
    assert client.downloaded() == [b"content"]
    assert len(server.fetched) == 1
    offer(repository, server, path, b"newer content")
    assert client.download(path) == 0
    assert client.downloaded() == [b"newer content"]


@pytest.mark.parametrize("altered", [b"c0ntent", b"content and more", b"", None])
def test_an_altered_artifact_is_never_stored(
    client: TufClient, server: TufServer, repository: Repository, altered: bytes | None
) -> None:
    offer(repository, server, "a", b"content")
    place = next(iter(server.artifacts))
    if altered is None:
        del server.artifacts[place]
    else:
        server.artifacts[place] = altered
    assert client.download("a") == 1
    assert client.downloaded() == []
    server.artifacts[place] = b"content"
    assert client.download("a") == 0
