"""How far a fleet's metadata have gone, from what a device shows: signed files, never its word.

Only this hub's own keys sign timestamp and snapshot. One that is signed and newer than what the hub
has published means that the hub was set back, by a backup or a snapshot of its disk; or that
somebody else holds its keys, and so it is capped, in total and for good, how far the hub follows.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Snapshot, Timestamp

from muster_hub.errors import CatalogueError
from muster_hub.signing import roles
from muster_hub.storage.files import write_durably

LEAP_TOTAL_MAX = 1_000_000
"""Versions a role may ever be carried ahead by what devices show."""
RECORD = "caught_up.json"


@dataclass(frozen=True)
class CaughtUp:
    """The latest time the hub went on from what a device showed: to which versions."""

    at: float
    device: str
    versions: Mapping[str, int]


def shown_versions(roots: Iterable[Root], timestamp: bytes, snapshot: bytes) -> dict[str, int]:
    """Versions by role that a timestamp and its snapshot prove; raises CatalogueError.

    A hub that was set back may have other keys now than those that signed: any of its roots' count.
    """
    try:
        return _shown_versions(list(roots), timestamp, snapshot)
    except CatalogueError:
        raise
    except Exception as error:  # a stranger's bytes: whatever parsing them raises says one thing
        raise CatalogueError(f"what was shown can't be read: {type(error).__name__}") from None


def _shown_versions(roots: list[Root], timestamp: bytes, snapshot: bytes) -> dict[str, int]:
    shown = roles.parse(Timestamp, timestamp, "the timestamp shown")
    listed = roles.parse(Snapshot, snapshot, "the snapshot shown")
    for role, metadata in (("timestamp", shown), ("snapshot", listed)):
        if not any(roles.verified(root, role, metadata) for root in roots):
            raise CatalogueError(f"the {role} shown is not signed by this hub's keys")
    named = shown.signed.snapshot_meta
    if named.version != listed.signed.version:
        raise CatalogueError("the timestamp shown names another snapshot than the one shown")
    named.verify_length_and_hashes(snapshot)
    versions = {"timestamp": shown.signed.version, "snapshot": listed.signed.version}
    for file, meta in listed.signed.meta.items():
        versions[file.removesuffix(".json")] = meta.version
    return versions


class Record:
    """What devices' metadata have carried the catalogue ahead by, in all; a file beside it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / RECORD

    def allow(self, leaps: Mapping[str, int]) -> None:
        """Raise CatalogueError when a role would be carried ahead too far in total."""
        totals = self._read().get("totals", {})
        for role, leap in leaps.items():
            total = int(totals.get(role, 0)) + leap
            if total > LEAP_TOTAL_MAX:
                raise CatalogueError(
                    f"the {role} shown is {leap} versions ahead, {total} with earlier ones; no "
                    f"more than {LEAP_TOTAL_MAX} are believed: are this hub's keys in other hands?"
                )

    def add(self, leaps: Mapping[str, int], done: CaughtUp) -> None:
        """Note versions that were taken over from what a device showed."""
        totals = self._read().get("totals", {})
        for role, leap in leaps.items():
            totals[role] = int(totals.get(role, 0)) + leap
        latest = {"at": done.at, "device": done.device, "versions": dict(done.versions)}
        text = json.dumps({"totals": totals, "latest": latest}, sort_keys=True)
        write_durably(self._path, text.encode())

    def latest(self) -> CaughtUp | None:
        """The latest of these; None: there was none."""
        latest = self._read().get("latest")
        return None if latest is None else CaughtUp(**latest)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return found
