"""Take in what devices say: network thread → bounded queue → writer → commit → acknowledge.

A message is acknowledged to the broker only after its rows are committed, and to the device with
the highest sequence that is committed without a gap. Whatever is lost on the way, by a crash or a
full queue, the device sends again.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, IntegrityError

from muster_hub.db.models import EventRow
from muster_hub.db.store import Store
from muster_hub.mqtt.client import BrokerAddress, Delivery, HubClient
from muster_hub.mqtt.commit import Committed, commit
from muster_hub.mqtt.inbound import Inbound, Malformed, Wanted, read
from muster_protocol import messages, topics

CLIENT_ID = "muster-hub-ingest"
SESSION_SECONDS = 3600
QUEUE_MESSAGES_MAX = 20_000
BATCH_MESSAGES_MAX = 500
BATCH_SECONDS = 0.005
RETRY_SECONDS = (0.1, 5.0)
RECORD_SECONDS = 60.0
"""A device's unreadable messages are recorded at most this often."""
RECORDED_DEVICES_MAX = 10_000

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


@dataclass
class Counters:
    """Since start; read by the API."""

    messages: int = 0
    rows: int = 0
    duplicates: int = 0
    skipped_rows: int = 0
    reports: int = 0
    malformed: int = 0
    unknown_devices: int = 0
    overflowed: int = 0
    commits: int = 0
    retries: int = 0


class Ingest:
    """Started, it writes to the store what devices publish.

    ``on_want(device, chunks)`` and ``on_change()`` (something was committed) run on the writer.
    """

    def __init__(
        self,
        store: Store,
        address: BrokerAddress,
        *,
        on_want: Callable[[str, tuple[str, ...]], None],
        on_change: Callable[[], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.counters = Counters()
        self._store = store
        self._on_want = on_want
        self._on_change = on_change
        self._now = now
        self._queue: queue.Queue[Delivery] = queue.Queue(QUEUE_MESSAGES_MAX)
        self._recorded: dict[str, float] = {}
        self._stopping = threading.Event()
        self.client = HubClient(
            address, CLIENT_ID, session_seconds=SESSION_SECONDS, on_message=self._arrived
        )
        self._writer = threading.Thread(target=self._write, name="ingest", daemon=True)

    def start(self) -> None:
        self._writer.start()
        self.client.subscribe(*(topics.up_all(leaf) for leaf in topics.UP_LEAVES))
        self.client.start()

    def stop(self) -> None:
        """Commit what has come, acknowledge it, then disconnect."""
        self._stopping.set()
        self._writer.join()
        self.client.stop()

    def _arrived(self, delivery: Delivery) -> None:
        try:
            self._queue.put_nowait(delivery)
        except queue.Full:
            self.counters.overflowed += 1
            self.client.acknowledge(delivery)

    def _write(self) -> None:
        while True:
            deliveries = self._collect()
            if deliveries:
                self._process(deliveries)
            elif self._stopping.is_set():
                return

    def _collect(self) -> list[Delivery]:
        try:
            found = [self._queue.get(timeout=0.2)]
        except queue.Empty:
            return []
        until = time.monotonic() + BATCH_SECONDS
        while len(found) < BATCH_MESSAGES_MAX:
            try:
                found.append(self._queue.get(timeout=max(until - time.monotonic(), 0)))
            except queue.Empty:
                break
        return found

    def _process(self, deliveries: list[Delivery]) -> None:
        now = self._now()
        batch = [read(one.topic, one.payload, now) for one in deliveries]
        self.counters.messages += len(batch)
        done = self._commit(batch, now)
        if done is None:
            return
        for delivery in deliveries:
            self.client.acknowledge(delivery)
        for device, ack in done.acks:
            self.client.publish(topics.down(device, "ack"), messages.encode(ack))
        for one in batch:
            if isinstance(one, Wanted):
                self._on_want(one.device, one.chunks)
        self._on_change()

    def _commit(self, batch: list[Inbound], now: float) -> Committed | None:
        """Commit, waiting out a busy database; None when the hub stops before it could."""
        delay, most = RETRY_SECONDS
        while True:
            try:
                with self._store.write() as session:
                    done = commit(session, batch, now)
                    self._record_malformed(session.add, batch, now)
            except IntegrityError:
                return self._commit_singly(batch, now)
            except DBAPIError as error:
                self.counters.retries += 1
                _log.warning("ingest could not commit, trying again: %s", error.orig)
                if self._stopping.wait(delay * _random.uniform(0.5, 1.0)):
                    return None
                delay = min(delay * 2, most)
            else:
                self._count(done)
                return done

    def _commit_singly(self, batch: list[Inbound], now: float) -> Committed:
        """One message at a time, so that one the database refuses spoils no other."""
        done = Committed()
        for one in batch:
            try:
                with self._store.write() as session:
                    part = commit(session, [one], now)
            except DBAPIError as error:
                self.counters.malformed += 1
                _log.warning("a message of %s was dropped: %s", one.device, error.orig)
            else:
                self._count(part)
                done.acks += part.acks
        return done

    def _record_malformed(
        self, add: Callable[[EventRow], None], batch: list[Inbound], now: float
    ) -> None:
        for one in batch:
            if not isinstance(one, Malformed):
                continue
            self.counters.malformed += 1
            if now - self._recorded.get(one.device, 0.0) < RECORD_SECONDS:
                continue
            if len(self._recorded) >= RECORDED_DEVICES_MAX:
                self._recorded.clear()
            self._recorded[one.device] = now
            add(
                EventRow(
                    kind="malformed",
                    received=now,
                    detail=f"{one.device or 'someone'} sent what can't be read: {one.fault}"[:500],
                    data={"device": one.device, "topic": one.topic},
                )
            )

    def _count(self, done: Committed) -> None:
        counters = self.counters
        counters.commits += 1
        counters.rows += done.rows
        counters.duplicates += done.duplicates
        counters.skipped_rows += done.skipped_rows
        counters.reports += done.reports
        counters.unknown_devices += done.unknown_devices
