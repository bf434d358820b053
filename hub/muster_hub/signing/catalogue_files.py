"""The catalogue's files: reading what is published and what waits, writing under a lock.

Layout: ``timestamp.json``, ``N.<role>.json`` (written once), ``drafts/<role>.json`` (waiting for
signatures), ``floors.json`` (versions that devices already hold, after a restore).
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from muster_hub.errors import CatalogueError
from muster_hub.signing import roles
from muster_hub.signing.roles import AnyMetadata, Kind, RoleStanding
from muster_hub.storage.files import write_durably
from muster_protocol.wire.chunks import sha256_hex


class CatalogueFiles:
    """The catalogue's metadata on the disk: published versions and drafts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._drafts = directory / "drafts"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time, also across processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # Published

    def stamp(self) -> tuple[int, ...]:
        """Another one after every change of what is published: files are never changed in place."""
        try:
            found = (self.directory / "timestamp.json").stat()
        except FileNotFoundError:
            return ()
        return found.st_mtime_ns, found.st_ino, self.directory.stat().st_mtime_ns

    def in_publication_order(self) -> dict[str, bytes]:
        """Every current file by name: leaves first, the timestamp last."""
        data = self._bytes("timestamp.json")
        if data is None:
            return {}
        timestamp = roles.parse(Timestamp, data, "timestamp.json").signed
        snapshot_name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        snapshot = roles.parse(Snapshot, self.must(snapshot_name), snapshot_name).signed
        leaves = sorted(snapshot.meta.items(), key=lambda item: item[0] == "targets.json")
        names = [f"{meta.version}.{name}" for name, meta in leaves]
        names.append(snapshot_name)
        names += [f"{version}.root.json" for version in range(1, self.version("root") + 1)]
        return {name: self.must(name) for name in names} | {"timestamp.json": data}

    def current(self, role: str, kind: type[Kind]) -> Metadata[Kind] | None:
        """The published metadata of a role; None when it has none."""
        version = self.version(role)
        if not version:
            return None
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return roles.parse(kind, self.must(name), name)

    def standing(self) -> dict[str, RoleStanding]:
        """Each published role's keys and expiry; the director is good as long as targets."""
        root, targets = self.current("root", Root), self.current("targets", Targets)
        if root is None or targets is None:
            return {}
        found = {
            role: roles.standing(root.signed, role, self._signed(role))
            for role in root.signed.roles
        }
        for role in roles.delegations_of(targets.signed).roles or {}:
            own = self._signed(role) if self.version(role) else targets.signed
            found[role] = roles.standing(targets.signed, role, own)
        return found

    def signed_by(self, role: str) -> tuple[str, ...]:
        """Ids of the keys by whose signatures a model's published role counts."""
        targets = self.current("targets", Targets)
        metadata = self.current(role, Targets)
        if targets is None or metadata is None:
            return ()
        return roles.signatures(targets.signed, role, metadata).signed

    def _signed(self, role: str) -> Signed:
        name = "timestamp.json" if role == "timestamp" else f"{self.version(role)}.{role}.json"
        signed: Signed = roles.parse_any(self.must(name), name).signed
        return signed

    def roots(self) -> list[Root]:
        """Every root there was, the newest first."""
        versions = range(self._root_version(), 0, -1)
        names = [f"{version}.root.json" for version in versions]
        return [roles.parse(Root, self.must(name), name).signed for name in names]

    def leaves(self) -> dict[str, Targets]:
        """The published targets and model roles by name."""
        snapshot = self.current("snapshot", Snapshot)
        found = {}
        for file in () if snapshot is None else snapshot.signed.meta:
            role = file.removesuffix(".json")
            metadata = self.current(role, Targets)
            if metadata is not None:
                found[role] = metadata.signed
        return found

    def version(self, role: str) -> int:
        """The published version of a role; 0 when it has none."""
        if role == "root":
            return self._root_version()
        data = self._bytes("timestamp.json")
        if data is None:
            return 0
        timestamp = roles.parse(Timestamp, data, "timestamp.json").signed
        if role == "timestamp":
            return timestamp.version
        if role == "snapshot":
            return timestamp.snapshot_meta.version
        name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        meta = roles.parse(Snapshot, self.must(name), name).signed.meta.get(f"{role}.json")
        return 0 if meta is None else meta.version

    def next_version(self, role: str) -> int:
        """The version that a role's next signature makes; never one that devices know already."""
        return max(self.version(role), self._floors().get(role, 0)) + 1

    def raise_floors(self, versions: Mapping[str, int]) -> None:
        """Never give out these versions of these roles, or lower ones, again."""
        floors = self._floors()
        for role, version in versions.items():
            floors[role] = max(version, floors.get(role, 0))
        write_durably(self.directory / "floors.json", json.dumps(floors).encode())

    def publish(self, role: str, metadata: AnyMetadata) -> None:
        """Write a role's file. It counts as published once a written timestamp leads to it."""
        version = metadata.signed.version
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        write_durably(self.directory / name, roles.serialise(role, metadata))

    def digest(self, name: str) -> str:
        """SHA-256 of a file, in hexadecimal; empty while there is none."""
        data = self._bytes(name)
        return "" if data is None else sha256_hex(data)

    def must(self, name: str) -> bytes:
        """A file that has to be there; raises CatalogueError."""
        data = self._bytes(name)
        if data is None:
            raise CatalogueError(
                f"{self.directory / name} is missing: restore the directory from a backup"
            )
        return data

    # Waiting for signatures

    def drafts(self) -> dict[str, bytes]:
        """Drafts by role in the order in which to sign them."""
        found = {path.stem: path.read_bytes() for path in self._drafts.glob("*.json")}
        return dict(sorted(found.items(), key=lambda item: signing_order(item[0])))

    def draft(self, role: str, kind: type[Kind]) -> Metadata[Kind] | None:
        """A role's draft that waits for signatures; None when there is none."""
        data = self._bytes(f"drafts/{role}.json")
        return None if data is None else roles.parse(kind, data, f"drafts/{role}.json")

    def save_draft(self, role: str, draft: AnyMetadata) -> None:
        """Keep a draft durably, with the signatures it has."""
        write_durably(self._drafts / f"{role}.json", roles.serialise(role, draft))

    def drop_draft(self, role: str) -> None:
        """A draft is not wanted any more."""
        (self._drafts / f"{role}.json").unlink(missing_ok=True)

    def _root_version(self) -> int:
        found = [path.name.split(".")[0] for path in self.directory.glob("*.root.json")]
        return max((int(number) for number in found if number.isdecimal()), default=0)

    def _floors(self) -> dict[str, int]:
        data = self._bytes("floors.json")
        return {} if data is None else {str(k): int(v) for k, v in json.loads(data).items()}

    def _bytes(self, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None


def signing_order(role: str) -> tuple[int, str]:
    """A sort key: a delegator before what it delegates."""
    return ({"root": 0, "targets": 1}.get(role, 2), role)
