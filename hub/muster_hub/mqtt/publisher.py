"""Keep the broker holding what it should: decided messages, the catalogue, directives, chunks.

Messages decided in a transaction wait in ``outbox_message`` and are marked when the broker has
taken them. Everything retained follows from database, catalogue and blobs, so a broker that lost
its memory is filled again. Chunks are published once: a retained note names the set the broker
holds, written after the last of them and expiring before they do; only without it they go again.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import bindparam
from sqlmodel import Session, col, select, update

from muster_hub.courtesy import COURTESY
from muster_hub.errors import HubError
from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.chunk_cache import ChunkCache, Chunks
from muster_hub.mqtt.client import BrokerAddress
from muster_hub.mqtt.inbound import Wanted
from muster_hub.mqtt.sending import Sender, Sending
from muster_hub.mqtt.wants import WantDesk
from muster_hub.storage.models import DirectiveRow, OutboxMessage
from muster_hub.storage.store import Store
from muster_hub.storage.tables import target
from muster_protocol.wire import topics
from muster_protocol.wire.chunks import sha256_hex

TICK_SECONDS = 1.0
SILENT_SECONDS = 300.0
OUTBOX_ROWS_MAX = 1_000
WANTS_MAX = 1_000
RETIRED_SECONDS = 300.0
"""How long an outdated metadata file stays for devices that are reading it."""

_log = logging.getLogger(__name__)
_random = random.SystemRandom()
_UNSENT = (
    select(OutboxMessage)
    .where(
        col(OutboxMessage.published_at).is_(None),
        col(OutboxMessage.id).not_in(bindparam("sent", expanding=True)),
    )
    .order_by(col(OutboxMessage.id))
    .limit(OUTBOX_ROWS_MAX)
)
_TAKEN = update(target(OutboxMessage)).where(col(OutboxMessage.id) == bindparam("taken"))


class Catalogue(Protocol):
    """What is published of the catalogue."""

    def files_to_publish(self) -> Mapping[str, bytes]:
        """Metadata files by name, in the order in which they are published."""
        ...


@dataclass(frozen=True)
class _Row:
    """Names an outbox message under way."""

    id: int


class Publisher:
    """Started, it publishes. ``save`` has the broker write its memory down, where it can."""

    def __init__(
        self,
        store: Store,
        address: BrokerAddress | None,
        catalogue: Catalogue,
        chunks: Chunks,
        *,
        save: Callable[[], None],
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sender: Sending | None = None,
        heartbeats: Heartbeats | None = None,
        fenced: Callable[[Session], bool] = lambda _session: False,
        hears_wants: bool = False,
    ) -> None:
        """``sender`` stands in for a connection to ``address``. ``fenced`` says, in each
        transaction, whether another publishes by now, so that this one must mark nothing more.
        ``hears_wants``: from the broker, where what devices say comes to other processes.
        """
        self._store = store
        self._catalogue = catalogue
        self._chunks = chunks
        self._now = now
        self._monotonic = monotonic
        self._sender = sender or _connect(address, self._wanted if hears_wants else None)
        self._cache = ChunkCache(self._sender, chunks, save=save)
        self._desk = WantDesk()
        self._wants: queue.Queue[tuple[str, tuple[str, ...], bool]] = queue.Queue(WANTS_MAX)
        self._files: dict[str, str] = {}
        self._retired: dict[str, float] = {}
        self._connection = 0
        self._sent: set[int] = set()
        """Rows published and not marked yet, whether the broker has them already or not."""
        self._taken: list[int] = []
        """Those it has: the database may be too busy to mark them."""
        self._fenced = fenced
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("publisher", SILENT_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="publisher", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached."""
        return self._sender.connected

    def start(self) -> None:
        """Connect, and begin to publish what waits."""
        self._sender.start()
        self._thread.start()

    def stop(self) -> None:
        """Publish what is decided, if the broker is there, then disconnect."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        self._sender.stop()

    def wake(self) -> None:
        """Something was decided: look now. Never blocks."""
        self._wake.set()

    def want(self, device: str, chunks: tuple[str, ...], last_resort: bool = False) -> None:  # noqa: FBT001, FBT002 - as it stands in the message
        """A device lacks chunks, and has no other source in the ``last_resort``. Never blocks; what
        doesn't fit the queue is asked for again.
        """
        try:
            self._wants.put_nowait((device, chunks, last_resort))
        except queue.Full:
            return
        self._wake.set()

    def _wanted(self, wanted: Wanted) -> None:
        self.want(wanted.device, wanted.chunks, wanted.last_resort)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(TICK_SECONDS * _random.uniform(0.8, 1.2))
            self._wake.clear()
            try:
                self.step()
            except Exception as error:
                _log.exception("publishing failed; trying again")
                self._part.retrying(error)
                self._stopping.wait(_random.uniform(1.0, 3.0))
            else:
                self._part.beat()

    def step(self) -> None:
        """Publish whatever is due now; called by the thread."""
        connection = self._sender.connections
        if not self._sender.connected:
            return
        if connection != self._connection:
            self._files.clear()
            self._cache.forget()
            self._republish_directives()
            self._connection = connection
        self._publish_outbox()
        self._publish_catalogue()
        self._cache.publish(self._now())
        self._answer_wants()
        self._mark_taken()

    def _publish_outbox(self) -> None:
        while True:
            self._mark_taken()
            with self._store.read() as session:
                rows = session.exec(_UNSENT, params={"sent": list(self._sent)}).all()
            for row in rows:
                COURTESY.give_way()
                assert row.id is not None
                self._sent.add(row.id)
                if not self._sender.send(
                    _Row(row.id),
                    row.topic,
                    row.payload,
                    retain=row.retain,
                    expiry_seconds=row.expiry_seconds,
                ):
                    self._sent.discard(row.id)
                    return
            if len(rows) < OUTBOX_ROWS_MAX:
                return

    def _mark_taken(self) -> None:
        """Mark what the broker has; what can't be marked now isn't forgotten nor sent again."""
        self._taken += [name.id for name in self._sender.taken() if isinstance(name, _Row)]
        if not self._taken:
            return
        with self._store.write() as session:
            if self._fenced(session):
                raise HubError("another publisher has taken over")
            now = self._now()
            session.connection().execute(
                _TAKEN, [{"taken": number, "published_at": now} for number in self._taken]
            )
        self._sent.difference_update(self._taken)
        self._taken = []

    def _publish_catalogue(self) -> None:
        now = self._now()
        files = self._catalogue.files_to_publish()
        for file, data in files.items():
            digest = sha256_hex(data)
            if self._files.get(file) == digest:
                continue
            if not self._sender.send(file, topics.tuf(file), data, retain=True):
                return
            self._files[file] = digest
            self._retired.pop(file, None)
        for file in self._files.keys() - files.keys():
            self._retired.setdefault(file, now)
        for file, since in list(self._retired.items()):
            if now - since >= RETIRED_SECONDS and self._sender.send(
                file, topics.tuf(file), b"", retain=True
            ):
                del self._retired[file]
                self._files.pop(file, None)

    def _republish_directives(self) -> None:
        with self._store.read() as session:
            rows = session.exec(select(DirectiveRow.device, DirectiveRow.envelope)).all()
        for device, envelope in rows:
            name = ("directive", device)
            self._sender.send(name, topics.down(device, "directive"), envelope, retain=True)

    def _answer_wants(self) -> None:
        while True:
            try:
                device, wanted, last_resort = self._wants.get_nowait()
            except queue.Empty:
                return
            allowed = self._chunks.of_directive(device)
            chosen = self._desk.answer(
                device, wanted, allowed, self._monotonic(), last_resort=last_resort
            )
            for chunk in chosen:
                self._cache.answer(chunk, last_resort=last_resort)


def _connect(address: BrokerAddress | None, on_want: Callable[[Wanted], None] | None) -> Sending:
    assert address is not None, "a publisher needs an address or a sender"
    return Sender(address, on_want)
