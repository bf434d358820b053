"""The ``current/<slot>`` links: which bundle serves, for other programs and for an emergency.

They are derived from the pointers in the database and repaired from them at boot. Only when the
database can't be read do they speak for themselves.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from muster_agent.storage.content import Store, decode_manifest
from muster_agent.storage.files import link_durably, make_directory
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import ProtocolError


class CurrentLinks:
    """The links ``current/<slot>`` to what runs, for other programs."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._directory = directory
        self._store = store

    def point(self, slot: str, digest: str) -> None:
        """Make ``current/<slot>`` name this bundle; no write when it already does."""
        link = self._directory / slot
        bundle = self._store.directory / "bundles" / digest
        target = os.path.relpath(bundle, self._directory)
        if link.is_symlink() and str(link.readlink()) == target:
            return
        make_directory(self._directory)
        link_durably(link, target)

    def read(self) -> Mapping[str, Goal]:
        """What the links say runs; links to nothing readable are left out."""
        goals: dict[str, Goal] = {}
        for link in self._directory.iterdir() if self._directory.is_dir() else ():
            if not link.is_symlink():
                continue
            digest = link.readlink().name
            data = self._store.manifest(digest)
            if data is None:
                continue
            try:
                listing = decode_manifest(data)
            except ProtocolError:
                continue
            goals[link.name] = Goal(listing.model, listing.version, digest, len(data))
        return goals
