"""What waits for the hub: rows in SQLite until the hub's database, not the broker, has them.

A row gets its (epoch, sequence) durably when it goes in flight and never changes after that; until
then summaries may be merged to make room. The hub acknowledges the highest sequence up to which it
has committed everything, so any number of resends, losses and restarts counts each row once.

The caller's thread and connection are used; nothing here opens sockets, sleeps or reads a clock.
"""

import os
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from muster_agent.observe.day_budget import LOOK_SECONDS, UNBOUNDED, DayBudget
from muster_agent.observe.merging import Mergeable, plan_merges
from muster_agent.observe.outbox_table import ROW_OVERHEAD_BYTES, STREAMS, OutboxTable
from muster_protocol import PROTOCOL_VERSION
from muster_protocol.signals import baseline, summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary, merge
from muster_protocol.wire import limits, messages
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.messages import Ack, Batch, Event, Row, Stamp, Stream

BATCH_BYTES_MAX = limits.TELEMETRY_BYTES_MAX - limits.KIB
EVENTS_SHARE = 1 / 8
"""Of the outbox that events may fill: they can't be merged, the oldest are given up."""
IN_FLIGHT_SHARE = 1 / 2
"""Of the outbox that one stream's rows in flight may fill: they neither merge nor go."""
FREED_SHARE = 1 / 256
"""Of the outbox that is freed at once, so that merging is rare and short."""
RESEND_SECONDS = 20.0
RESEND_SECONDS_MAX = 600.0
_DOUBLINGS_MAX = 8


@dataclass(frozen=True)
class OutboxStats:
    """How full the outbox is, and what its bound has cost so far."""

    rows: int
    """Events and summaries that the hub has not acknowledged."""
    bytes: int
    in_flight: int
    merged: int
    """Merges that cost a row its own resolution, ever."""
    dropped_events: int
    dropped_summaries: int
    """Given up because nothing could be merged any more, ever."""
    waiting_for: str
    """Why summaries wait although they could be sent; empty when they don't."""


@dataclass(frozen=True)
class SampleBounds:
    """What sampled rows may take of the disk and the link, and how they are opened."""

    bytes_max: int = 0
    budget: DayBudget = UNBOUNDED
    open: Callable[[bytes], bytes] = lambda _sealed: b""
    """A sealed row as it is sent; empty when its key is gone."""


NO_SAMPLES = SampleBounds()


class _Again(NamedTuple):
    """When a row in flight is sent again if no acknowledgement comes, and how often it was sent."""

    due: float
    times: int


class Outbox:
    """One per device. Calls join an open transaction, or make their own."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        bytes_max: int = limits.OUTBOX_BYTES_MAX,
        uniform: Callable[[], float] = random.random,
        new_epoch: Callable[[int], bytes] = os.urandom,
        budget: DayBudget = UNBOUNDED,
        samples: SampleBounds = NO_SAMPLES,
    ) -> None:
        """``connection`` is in autocommit mode (``isolation_level=None``)."""
        self._table = OutboxTable(connection, new_epoch)
        self._bytes_max = bytes_max
        self._uniform = uniform
        self._budget = budget
        self._samples = samples
        self._again: dict[tuple[Stream, int], _Again] = {}
        """Rows sent over this connection; any other row in flight is due at once."""
        self._baselines: dict[str, Baseline] = {}

    def put_event(self, event: Event) -> None:
        """Queue an event; when events fill their share, the oldest that never left go."""
        payload = messages.encode(event)
        with self._table.transaction():
            self._table.insert("event", event.manifest, 0, payload)
            while self._table.totals("event").bytes > self._bytes_max * EVENTS_SHARE:
                if not self._table.drop_oldest("event"):
                    break
            self._make_room()

    def put_summary(self, summary: Summary) -> None:
        """Queue a window; when the outbox is full, older ones are merged.

        Raises LimitError when the summary is larger than a message may be.
        """
        payload = summary_wire.encode(summary)
        with self._table.transaction():
            if summary.features is not None and not self._table.has_baseline(summary.manifest):
                # Windows may wait longer than their bundle stays installed.
                file = baseline.encode(summary.features.baseline)
                self._table.put_baseline(summary.manifest, file)
            self._table.insert("summary", summary.manifest, summary.windows, payload)
            self._make_room()

    def put_sample(self, policy: str, sealed: bytes) -> None:
        """Queue a sealed row of a sampling policy; when samples fill their share, the oldest that
        never left go.
        """
        with self._table.transaction():
            self._table.insert("sample", policy, 0, sealed)
            while self._table.totals("sample").bytes > self._samples.bytes_max:
                if not self._table.drop_oldest("sample"):
                    break
            self._make_room()

    def drop_samples(self, policy: str) -> int:
        """Delete what waits of a policy; how many rows. Joins an open transaction.

        A row in flight keeps its number and loses what it held: the hub may have it already.
        """
        with self._table.transaction():
            return self._table.drop_waiting("sample", policy) + self._table.blank("sample", policy)

    def samples(self, policy: str) -> int:
        """How many rows of a policy are here and the hub has not acknowledged."""
        return self._table.count("sample", policy)

    def next(self, now: float, sent: Stamp) -> tuple[Stream, Batch] | None:
        """The next batch to publish, None when nothing is due; call it until then.

        What it returns counts as sent at ``now`` (monotonic seconds). Not to be called inside a
        transaction: a sequence must be durable before anyone sees it.
        """
        assert not self._table.in_transaction, "a batch must not leave before its commit"
        for stream in STREAMS:
            waiting = self._table.totals(stream).rows
            if not waiting or (left := self._left(stream)) <= 0:
                continue
            flying = self._table.in_flight(stream)
            rows = [row for row in flying if self._due(stream, row[0], now) <= now]
            if not rows and len(flying) < waiting:
                count, room = self._room(flying)
                rows = self._table.launch(stream, count, int(min(room, left + 1)))
            if rows:
                return stream, self._batch(stream, rows, left, now, sent)
        return None

    def due(self, now: float) -> float | None:
        """When ``next`` may have something again; None when all is acknowledged."""
        times = []
        for stream in STREAMS:
            waiting = self._table.totals(stream).rows
            if not waiting:
                continue
            if self._left(stream) <= 0:
                times.append(now + LOOK_SECONDS)
                continue
            flying = self._table.in_flight(stream)
            times += [self._due(stream, sequence, now) for sequence, _ in flying]
            if len(flying) < waiting and min(self._room(flying)) > 0:
                times.append(now)
        return min(times, default=None)

    def not_sent(self, stream: Stream, batch: Batch) -> None:
        """The link refused the batch: it is due at once."""
        for row in batch.rows:
            self._again.pop((stream, row.sequence), None)

    def reconnected(self) -> None:
        """A new connection: what was in flight may be lost, so all of it is due."""
        self._again.clear()

    def acknowledge(self, ack: Ack) -> int:
        """Forget what the hub has committed; returns how many rows that were."""
        totals = self._table.totals(ack.stream)
        if ack.epoch != totals.epoch:
            return 0
        with self._table.transaction():
            done = self._table.delete_up_to(ack.stream, ack.sequence)
            if ack.sequence > totals.assigned:
                # The hub has more of this epoch than was ever sent from here: this file is an old
                # copy (a restored backup). Going on in the epoch would have new rows taken for
                # old ones.
                self._table.renew_epoch(ack.stream)
        for key in list(self._again):
            if key[0] == ack.stream and key[1] <= ack.sequence:
                del self._again[key]
        return done

    def stats(self) -> OutboxStats:
        events, summaries = self._table.totals("event"), self._table.totals("summary")
        return OutboxStats(
            rows=events.rows + summaries.rows,
            bytes=self._table.size_bytes(),
            in_flight=sum(len(self._table.in_flight(stream)) for stream in STREAMS),
            merged=summaries.merged,
            dropped_events=events.dropped,
            dropped_summaries=summaries.dropped,
            waiting_for=self._budget.reason("summary") if summaries.rows else "",
        )

    def _left(self, stream: Stream) -> float:
        left = self._budget.left(stream)
        return min(left, self._samples.budget.left(stream)) if stream == "sample" else left

    def _due(self, stream: Stream, sequence: int, now: float) -> float:
        again = self._again.get((stream, sequence))
        return now if again is None else again.due

    def _room(self, flying: list[tuple[int, int]]) -> tuple[int, int]:
        """How many rows, and from how many bytes on no further one, may go in flight."""
        taken = sum(size + ROW_OVERHEAD_BYTES for _, size in flying)
        return limits.IN_FLIGHT_ROWS_MAX - len(flying), int(
            self._bytes_max * IN_FLIGHT_SHARE
        ) - taken

    def _batch(
        self, stream: Stream, rows: list[tuple[int, int]], left: float, now: float, sent: Stamp
    ) -> Batch:
        """As many of the rows as a message and today's budget hold; the rest stays due."""
        chosen: list[int] = []
        size = 0
        for sequence, payload_bytes in rows:
            more = payload_bytes + ROW_OVERHEAD_BYTES
            if chosen and (size + more > BATCH_BYTES_MAX or size >= left):
                break
            size += more
            chosen.append(sequence)
        self._budget.spend(size)
        if stream == "sample":
            self._samples.budget.spend(size)
        times = max(self._again.get((stream, n), _Again(0, 0)).times for n in chosen)
        pause = min(RESEND_SECONDS * 2 ** min(times, _DOUBLINGS_MAX), RESEND_SECONDS_MAX)
        due = now + pause * (0.75 + 0.5 * self._uniform())
        self._again.update({(stream, sequence): _Again(due, times + 1) for sequence in chosen})
        epoch = self._table.totals(stream).epoch
        found = self._table.rows(stream, chosen)
        if stream == "sample":
            found = [Row(row.sequence, self._samples.open(row.payload)) for row in found]
        return Batch(PROTOCOL_VERSION, epoch, sent, found)

    def _make_room(self) -> None:
        """Give up samples, then merge, and only when nothing merges any more drop summaries."""
        while self._table.size_bytes() > self._bytes_max:
            if not self._table.drop_oldest("sample"):
                break
        over = self._table.size_bytes() - self._bytes_max
        if over <= 0:
            return
        target = self._table.size_bytes() - over - int(self._bytes_max * FREED_SHARE)
        self._merge_down_to(target)
        while self._table.size_bytes() > self._bytes_max:
            if not self._table.drop_oldest("summary"):
                break

    def _merge_down_to(self, target: int) -> None:
        """Merge until the outbox takes at most ``target`` bytes or nothing merges."""
        unreadable: set[int] = set()
        while (over := self._table.size_bytes() - target) > 0:
            waiting = [row for row in self._table.mergeable() if row.id not in unreadable]
            plan = plan_merges(waiting, over)
            if not plan:
                break
            for first, second in plan:
                if not self._merge_pair(first, second):
                    unreadable |= {first.id, second.id}

    def _merge_pair(self, first: Mergeable, second: Mergeable) -> bool:
        """False when the two can't be read here: made by another version, or the baseline gone."""
        try:
            item, other = (
                summary_wire.decode(self._table.payload(row), self._baseline(row.manifest))
                for row in (first, second)
            )
        except ProtocolError:
            return False
        if not (isinstance(item, Summary) and isinstance(other, Summary)):
            return False
        both = merge(item, other)
        try:
            payload = summary_wire.encode(both)
        except LimitError:  # together they count more than one summary may
            return False
        self._table.replace_pair(first, second, both.windows, payload)
        return True

    def _baseline(self, manifest: str) -> Baseline | None:
        if manifest not in self._baselines:
            file = self._table.baseline(manifest)
            if file is None:
                return None
            self._baselines = {manifest: baseline.decode(file)}
        return self._baselines[manifest]
