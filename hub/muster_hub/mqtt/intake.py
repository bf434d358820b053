"""What devices said, made durable, and what is answered: read → commit → acknowledge. No threads.

``Intake.take`` returns only once its batch is committed: what it returns may be told to devices.
What passes (a lock, a lost connection) is tried again. What never will be committed is found by
halving the batch, and set aside alone, under the device that sent it.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from sqlmodel import Session

from muster_hub.courtesy import COURTESY
from muster_hub.fleet import set_aside
from muster_hub.fleet.set_aside import MessageFault, Senders
from muster_hub.heartbeats import Heartbeats, Part, described
from muster_hub.mqtt.commit import Committed, commit
from muster_hub.mqtt.inbound import (
    NEWER,
    UNREADABLE,
    Inbound,
    Malformed,
    Renews,
    Rows,
    Shows,
    Wanted,
    read,
    unkept,
)
from muster_hub.storage import faults
from muster_hub.storage.models import EventRow
from muster_hub.storage.store import Store
from muster_protocol.wire.messages import Ack

Done = TypeVar("Done")
RETRY_SECONDS = (0.1, 5.0)
RECORD_SECONDS = 60.0
"""A device's unreadable messages are told of at most this often."""
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
    set_aside: int = 0
    """Messages and rows that could not be taken, those that could not be read among them."""
    unknown_devices: int = 0
    replaced: int = 0
    """Reports that waited when a newer one of their device came."""
    commits: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Taken:
    """A committed batch: acknowledgements by device, and what devices ask for."""

    acks: list[tuple[str, Ack]]
    wants: list[Wanted]
    renewals: list[Renews]
    shown: list[Shows]


class _GaveUp(Exception):
    """The hub stops; what isn't committed is not acknowledged and comes again."""


class Intake:
    """``pause(seconds)`` waits before another try at a busy database; True: give up."""

    def __init__(
        self,
        store: Store,
        pause: Callable[[float], bool],
        part: Part | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``clock`` tells when a batch is written, which may be long after it came."""
        self.counters = Counters()
        self.senders = Senders()
        self._store = store
        self._pause = pause
        self._part = part or Heartbeats().part("ingest", 60.0)
        self._clock = clock
        self._recorded: dict[str, float] = {}

    def take(self, messages: Sequence[tuple[str, bytes]], now: float) -> Taken | None:
        """Commit (topic, payload) messages; None when ``pause`` gave up before that was done."""
        batch = []
        for topic, payload in messages:
            COURTESY.give_way()
            batch.append(read(topic, payload, now))
        self.counters.messages += len(batch)
        try:
            acks = self._commit(batch, now)
        except _GaveUp:
            return None
        return Taken(
            acks,
            [inbound for inbound in batch if isinstance(inbound, Wanted)],
            [inbound for inbound in batch if isinstance(inbound, Renews)],
            [inbound for inbound in batch if isinstance(inbound, Shows)],
        )

    def refuse(self, fault: MessageFault, now: float) -> None:
        """Set aside what a device asked for and the hub failed at; never raises."""
        try:
            self._set_aside([fault], now)
        except _GaveUp:
            return

    def _commit(self, batch: list[Inbound], now: float) -> list[tuple[str, Ack]]:
        """Commit all of a batch that can be; the acknowledgements."""
        found = _faults(batch)
        try:
            done = self._try(lambda session: self._write(session, batch, found, now))
        except _GaveUp:
            raise
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                return self._commit(batch[:middle], now) + self._commit(batch[middle:], now)
            return self._alone(batch[0], error, now)
        self._count(done, sum(isinstance(inbound, Malformed) for inbound in batch))
        self._count_faults(found, now)
        return done.acks

    def _alone(self, inbound: Inbound, error: Exception, now: float) -> list[tuple[str, Ack]]:
        """One message that can't be committed: of rows the others are, and all are acknowledged."""
        if isinstance(inbound, Rows) and len(inbound.rows) > 1:
            sequences = sorted(inbound.rows)
            middle = len(sequences) // 2
            halves = (sequences[:middle], sequences[middle:])
            parts = [replace(inbound, rows={n: inbound.rows[n] for n in half}) for half in halves]
            return [ack for part in parts for ack in self._commit([part], now)]
        why = described(error)
        _log.warning("a message of %s is set aside: %s", inbound.device or "someone", why)
        if isinstance(inbound, Rows) and not _is_unkept(inbound):
            return self._commit([unkept(inbound, why)], now)
        self._set_aside(
            [MessageFault(inbound.device, type(inbound).__name__.lower()[:16], why)], now
        )
        return []

    def _set_aside(self, found: list[MessageFault], now: float) -> None:
        self._count_faults(found, now)
        try:
            self._try(lambda session: set_aside.record(session, found, self.senders, now))
        except _GaveUp:
            raise
        except Exception:
            _log.exception("what is set aside could not be recorded")

    def _try(self, work: Callable[[Session], Done]) -> Done:
        """``work`` in a transaction, again for as long as what keeps it from ending passes."""
        delay, most = RETRY_SECONDS
        while True:
            try:
                with self._store.write() as session:
                    done = work(session)
            except Exception as error:
                if not faults.passes(error):
                    raise
                self.counters.retries += 1
                self._part.retrying(error)
                _log.warning("ingest could not commit, trying again: %s", described(error))
                if self._pause(delay * _random.uniform(0.5, 1.0)):
                    raise _GaveUp from None
                delay = min(delay * 2, most)
            else:
                self._settle()
                return done

    def _settle(self) -> None:
        """What kept it is over. That more comes than is written is for others to say."""
        if self._part.standing().state == "lagging":
            self._part.alive()
        else:
            self._part.beat()

    def _write(
        self, session: Session, batch: list[Inbound], found: list[MessageFault], now: float
    ) -> Committed:
        done = commit(session, batch, now, self._clock)
        self._record_malformed(session, batch, now)
        set_aside.record(session, found, self.senders, now)
        return done

    def _record_malformed(self, session: Session, batch: list[Inbound], now: float) -> None:
        for inbound in batch:
            if not isinstance(inbound, Malformed):
                continue
            if now - self._recorded.get(inbound.device, float("-inf")) < RECORD_SECONDS:
                continue
            if len(self._recorded) >= RECORDED_DEVICES_MAX:
                self._recorded.clear()
            self._recorded[inbound.device] = now
            who = inbound.device or "someone"
            session.add(
                EventRow(
                    kind="malformed",
                    received=now,
                    detail=set_aside.clipped(f"{who} sent what can't be read: {inbound.fault}"),
                    data={"device": inbound.device, "topic": set_aside.clipped(inbound.topic)},
                )
            )

    def _count(self, done: Committed, malformed: int) -> None:
        counters = self.counters
        counters.commits += 1
        counters.malformed += malformed
        counters.rows += done.rows
        counters.duplicates += done.duplicates
        counters.skipped_rows += done.skipped_rows
        counters.reports += done.reports
        counters.unknown_devices += done.unknown_devices

    def _count_faults(self, found: list[MessageFault], now: float) -> None:
        self.counters.set_aside += len(found)
        for fault in found:
            if fault.device:
                self.senders.note(fault, now)


def _faults(batch: Sequence[Inbound]) -> list[MessageFault]:
    """What of a batch can't be taken, by sender: whole messages, and rows kept only as bytes."""
    found = []
    for inbound in batch:
        if isinstance(inbound, Malformed):
            leaf = inbound.topic.rpartition("/")[2][:16]
            found.append(MessageFault(inbound.device, leaf, inbound.fault, inbound.payload))
        elif isinstance(inbound, Rows):
            broken = (row for row in inbound.rows.values() if _why(row))
            found += [
                MessageFault(inbound.device, inbound.stream, _why(row))
                for row in islice(broken, 64)
            ]
    return found


def _why(row: dict[str, object]) -> str:
    """What is wrong with a row; empty for a good one and for one that a later hub may read."""
    if row.get("kind") == UNREADABLE:
        return str(row["detail"])
    fault = str(row.get("fault", ""))
    return "" if fault.endswith(NEWER) else fault


def _is_unkept(inbound: Rows) -> bool:
    return all(_why(row) for row in inbound.rows.values())
