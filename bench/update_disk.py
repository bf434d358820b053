"""Chunks put on a disk as an agent does it, and what the disk alone can do."""

import os
import tempfile
import time
from pathlib import Path

from muster_agent.storage.content import Store
from muster_agent.update.delivery import SYNC_BYTES
from muster_protocol.wire.limits import CHUNK_BYTES


class Kept:
    """A store that chunks are put into as an agent's delivery does it."""

    def __init__(self, directory: Path) -> None:
        self._store = Store(directory)
        self._store.clean()

    def put(self, digest: str, data: bytes) -> None:
        if self._store.add(digest, data) >= SYNC_BYTES:
            self._store.commit()

    def end(self) -> None:
        self._store.commit()


def sequential(megabytes: int) -> float:
    """MiB/s of one file written from beginning to end, synced as often as an agent syncs."""
    data = os.urandom(CHUNK_BYTES)
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        begun = time.monotonic()
        for number in range((megabytes << 20) // CHUNK_BYTES):
            file.write(data)
            if (number + 1) * CHUNK_BYTES % SYNC_BYTES == 0:
                os.fdatasync(file.fileno())
        os.fsync(file.fileno())
        return megabytes / (time.monotonic() - begun)


def chunk_by_chunk(megabytes: int) -> float:
    """MiB/s of a store that syncs each chunk before the next."""
    data = bytearray(os.urandom(CHUNK_BYTES))
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        store = Store(Path(name))
        store.clean()
        begun = time.monotonic()
        for number in range((megabytes << 20) // CHUNK_BYTES):
            store.put(f"{number % 256:02x}{number:062x}", data)
        return megabytes / (time.monotonic() - begun)
