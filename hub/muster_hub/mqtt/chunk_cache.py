"""The broker as a cache of chunks: each published once, retained, within the cache's size."""

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from muster_hub.mqtt.sending import Sending
from muster_hub.storage.blobs import BlobsAway
from muster_protocol.wire import topics
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import BROKER_CACHE_BYTES_MAX

EXPIRY_SECONDS = 14 * 86_400
"""Outlives any rollout."""
NOTE_EXPIRY_SECONDS = EXPIRY_SECONDS // 2
"""The note goes first, so that chunks are refreshed long before they expire."""
NOTE_WAIT_SECONDS = 1.0
DRAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Chunks(Protocol):
    """What the hub's database and blobs say about chunks."""

    def live(self) -> Sequence[Mapping[str, int]]:
        """Every chunk that running rollouts and assignments need, with its size in bytes.

        In groups, each of use only as a whole, the most wanted first.
        """
        ...

    def of_directive(self, device: str) -> Collection[str]:
        """The chunks that a device's directive in force names."""
        ...

    def read(self, sha256: str) -> bytes:
        """The chunk's bytes; raises MusterError when they are missing or altered."""
        ...


class ChunkCache:
    """Publishes through the publisher's sender, on its thread."""

    def __init__(self, sender: Sending, chunks: Chunks, *, save: Callable[[], None]) -> None:
        self._sender = sender
        self._chunks = chunks
        self._save = save
        self._held: set[str] | None = None
        """Chunks the broker is known to hold; None: not known yet."""
        self._unreadable: set[str] = set()
        self._outside: frozenset[str] = frozenset()
        """Live chunks that the cache has no room for."""
        self._noted_at = 0.0

    def forget(self) -> None:
        """The broker may have lost its memory."""
        self._held = None
        self._unreadable.clear()

    def publish(self, now: float) -> None:
        """Bring the broker to hold the live chunks, as far as they fit."""
        needed = self._chunks.live()
        live = self._fitting(needed)
        self._outside = frozenset().union(*needed) - live.keys()
        if self._held is None:
            note = self._sender.retained(topics.hub_chunks(), NOTE_WAIT_SECONDS)
            self._held = set(live) if note == _note(live) else set()
            self._noted_at = now if note == _note(live) else 0.0
        if now - self._noted_at > NOTE_EXPIRY_SECONDS / 2 and self._noted_at:
            self._held = set()
        missing = [chunk for chunk in live if chunk not in self._held | self._unreadable]
        retired = self._held - set(live)
        if not missing and not retired:
            return
        for chunk in missing:
            if not self._send(chunk):
                return
        for chunk in retired:
            if not self._sender.send(chunk, topics.chunk(chunk), b"", retain=True):
                return
            self._held.discard(chunk)
        self._write_note(live, now)

    def answer(self, chunk: str, *, last_resort: bool) -> None:
        """Publish a chunk again that a device found missing or altered.

        One that the cache has no room for is only named, by an empty message: it is to be had by
        HTTP. In the ``last_resort`` it is sent for this once.
        """
        self._unreadable.discard(chunk)
        if chunk not in self._outside:
            self._send(chunk)
        elif last_resort:
            self._send(chunk, retain=False)
        else:
            self._sender.send(chunk, topics.chunk(chunk), b"", retain=False)

    def _send(self, chunk: str, *, retain: bool = True) -> bool:
        try:
            data = self._chunks.read(chunk)
            if sha256_hex(data) != chunk:
                raise MusterError(f"blob {chunk} is altered on disk")  # noqa: TRY301 (one report below)
        except BlobsAway as error:
            _log.warning("chunks wait to be published: %s", error)
            return False
        except (MusterError, OSError) as error:
            _log.error("a chunk can't be published: %s", error)
            self._unreadable.add(chunk)
            return True
        expiry = EXPIRY_SECONDS if retain else None
        sent = self._sender.send(
            chunk, topics.chunk(chunk), data, retain=retain, expiry_seconds=expiry
        )
        if sent and retain and self._held is not None:
            self._held.add(chunk)
        return sent

    def _write_note(self, live: Mapping[str, int], now: float) -> None:
        if not self._sender.drain(DRAIN_SECONDS):
            return
        note = b"" if self._unreadable & set(live) else _note(live)
        if self._sender.send(
            "note", topics.hub_chunks(), note, retain=True, expiry_seconds=NOTE_EXPIRY_SECONDS
        ):
            self._noted_at = now
            self._sender.drain(DRAIN_SECONDS)
            self._save()

    def _fitting(self, live: Sequence[Mapping[str, int]]) -> dict[str, int]:
        """What fits into the broker's cache, in order; the rest travels by HTTP only.

        A bundle of which the broker held a part would be waited for in vain, and a part of one that
        is larger than the cache would take all others' place.
        """
        fitting: dict[str, int] = {}
        total = 0
        for group in live:
            fresh = {chunk: size for chunk, size in group.items() if chunk not in fitting}
            size_bytes = sum(fresh.values())
            if total + size_bytes <= BROKER_CACHE_BYTES_MAX:
                total += size_bytes
                fitting |= fresh
        return fitting


def _note(live: Collection[str]) -> bytes:
    digest = hashlib.sha256()
    for chunk in sorted(live):
        digest.update(bytes.fromhex(chunk))
    return digest.digest()
