"""What devices said, made durable, and what is answered: read → commit → acknowledge. No threads.

``Intake.take`` returns only once its batch is committed: what it returns may be told to devices.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, IntegrityError

from muster_hub.mqtt.commit import Committed, commit
from muster_hub.mqtt.inbound import Inbound, Malformed, Renews, Wanted, read
from muster_hub.storage.models import EventRow
from muster_hub.storage.store import Store
from muster_protocol.wire.messages import Ack

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


@dataclass(frozen=True)
class Taken:
    """A committed batch: acknowledgements by device, and what devices ask for."""

    acks: list[tuple[str, Ack]]
    wants: list[Wanted]
    renewals: list[Renews]


class Intake:
    """``pause(seconds)`` waits before another try at a busy database; True: give up."""

    def __init__(self, store: Store, pause: Callable[[float], bool]) -> None:
        self.counters = Counters()
        self._store = store
        self._pause = pause
        self._recorded: dict[str, float] = {}

    def take(self, messages: Sequence[tuple[str, bytes]], now: float) -> Taken | None:
        """Commit (topic, payload) messages; None when ``pause`` gave up before that was done."""
        batch = [read(topic, payload, now) for topic, payload in messages]
        self.counters.messages += len(batch)
        done = self._commit(batch, now)
        if done is None:
            return None
        return Taken(
            done.acks,
            [item for item in batch if isinstance(item, Wanted)],
            [item for item in batch if isinstance(item, Renews)],
        )

    def _commit(self, batch: list[Inbound], now: float) -> Committed | None:
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
                if self._pause(delay * _random.uniform(0.5, 1.0)):
                    return None
                delay = min(delay * 2, most)
            else:
                self._count(done)
                return done

    def _commit_singly(self, batch: list[Inbound], now: float) -> Committed:
        """One message at a time, so that one the database refuses spoils no other."""
        done = Committed()
        for item in batch:
            try:
                with self._store.write() as session:
                    part = commit(session, [item], now)
            except DBAPIError as error:
                self.counters.malformed += 1
                _log.warning("a message of %s was dropped: %s", item.device, error.orig)
            else:
                self._count(part)
                done.acks += part.acks
        return done

    def _record_malformed(
        self, add: Callable[[EventRow], None], batch: list[Inbound], now: float
    ) -> None:
        for item in batch:
            if not isinstance(item, Malformed):
                continue
            self.counters.malformed += 1
            if now - self._recorded.get(item.device, 0.0) < RECORD_SECONDS:
                continue
            if len(self._recorded) >= RECORDED_DEVICES_MAX:
                self._recorded.clear()
            self._recorded[item.device] = now
            add(
                EventRow(
                    kind="malformed",
                    received=now,
                    detail=f"{item.device or 'someone'} sent what can't be read: {item.fault}"[
                        :500
                    ],
                    data={"device": item.device, "topic": item.topic},
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
