"""The outbox: every row counted exactly once, whatever link, power and space do."""

import sqlite3
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from muster_agent.observe.day_budget import DayBudget
from muster_agent.observe.outbox import RESEND_SECONDS, Outbox
from muster_protocol.signals import baseline, binning, features, summary_wire
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire import limits, messages
from muster_protocol.wire.messages import Ack, Batch, Event, Stamp, Stream
from support.ideal_hub import IdealHub

BASELINE = baseline.fit(
    {"x": np.random.default_rng(5).normal(size=(500, 3)).astype(np.float32)},
    features.elements("x", 3),
)


def stamp(seconds: float) -> Stamp:
    return Stamp(b"boot", seconds, 1e9 + seconds, "synchronised")


def window(start: float, n: int, *, manifest: str = "aa" * 32, seed: int = 0) -> Summary:
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return Summary(
        "pump", "1", manifest, stamp(start), stamp(start + 300), counts=Tally(inferences=n),
        features=binning.count(BASELINE, {"x": x}),
    )  # fmt: skip


def event(text: str) -> Event:
    return Event(kind="note", at=stamp(0), detail=text)


def connect(path: Path | str = ":memory:") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def sent(outbox: Outbox, now: float) -> list[tuple[Stream, Batch]]:
    batches = []
    while (item := outbox.next(now, stamp(now))) is not None:
        batches.append(item)
    return batches


def drain(outbox: Outbox, hub: IdealHub, now: float) -> None:
    outbox.reconnected()
    for _ in range(10_000):
        item = outbox.next(now, stamp(now))
        if item is None:
            break
        outbox.acknowledge(hub.receive(*item))
    assert outbox.stats().rows == 0


def inferences(payloads: list[bytes]) -> int:
    total = 0
    for payload in payloads:
        summary = summary_wire.decode(payload, BASELINE)
        assert isinstance(summary, Summary)
        assert summary.features is not None
        assert summary.features.rows == summary.counts.inferences
        total += summary.counts.inferences
    return total


class Days:
    """A day that is set by hand and the bytes sent on each."""

    def __init__(self) -> None:
        self.today = 1
        self.sent: dict[int, int] = {}

    def spent(self, day: int, more: int) -> int:
        self.sent[day] = self.sent.get(day, 0) + more
        return self.sent[day]

    def budget(self, bytes_per_day: int) -> DayBudget:
        return DayBudget(bytes_per_day, lambda: self.today, self.spent)


ROW_BYTES_MAX = 1_000
"""More than any row of these tests takes."""


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    bytes_per_day=st.integers(500, 20_000),
)
@settings(max_examples=40)
def test_a_day_sends_no_more_than_its_budget_and_later_days_send_all_of_it(
    sizes: list[int], bytes_per_day: int
) -> None:
    days, hub = Days(), IdealHub()
    outbox = Outbox(connect(), budget=days.budget(bytes_per_day))
    for place, n in enumerate(sizes):
        outbox.put_summary(window(300 * place, n))
    for _ in range(200):
        if not outbox.stats().rows:
            break
        for stream, batch in sent(outbox, 86_400.0 * days.today):
            outbox.acknowledge(hub.receive(stream, batch))
        assert days.sent.get(days.today, 0) <= bytes_per_day + ROW_BYTES_MAX
        days.today += 1
    assert outbox.stats().rows == 0
    assert inferences(hub.payloads("summary")) == sum(sizes)


def test_summaries_leave_a_part_of_the_day_to_events_and_say_what_they_wait_for() -> None:
    days = Days()
    outbox = Outbox(connect(), budget=days.budget(8_000))
    for place in range(100):
        outbox.put_summary(window(300 * place, 5))
    assert {stream for stream, _ in sent(outbox, 0.0)} == {"summary"}
    assert outbox.stats().waiting_for.startswith("tomorrow")
    outbox.put_event(event("it drifts"))
    assert [stream for stream, _ in sent(outbox, 1.0)] == ["event"]
    assert {stream for stream, _ in sent(outbox, 10_000.0)} == {"event"}
    due = outbox.due(10_000.0)
    assert due is not None
    assert due > 10_000.0
    days.today += 1
    assert outbox.stats().waiting_for == ""
    assert sent(outbox, 10_001.0)


def test_what_waits_for_tomorrow_is_merged_when_the_outbox_is_full_and_not_lost() -> None:
    days, hub = Days(), IdealHub()
    outbox = Outbox(connect(), bytes_max=16 * 1024, budget=days.budget(2_000))
    for place in range(300):
        outbox.put_summary(window(300 * place, 5))
    assert outbox.stats().merged
    assert not outbox.stats().dropped_summaries
    for _ in range(100):
        for stream, batch in sent(outbox, 86_400.0 * days.today):
            outbox.acknowledge(hub.receive(stream, batch))
        days.today += 1
    assert inferences(hub.payloads("summary")) == 1500


def test_events_go_before_summaries() -> None:
    outbox = Outbox(connect())
    outbox.put_summary(window(0, 10))
    outbox.put_event(event("first"))
    assert [stream for stream, _ in sent(outbox, 0.0)] == ["event", "summary"]


def test_rows_stay_until_the_hub_acknowledges_and_are_sent_again_when_it_does_not() -> None:
    outbox = Outbox(connect(), uniform=lambda: 0.5)
    outbox.put_summary(window(0, 10))
    ((stream, first),) = sent(outbox, 0.0)
    assert sent(outbox, RESEND_SECONDS - 1) == []
    assert outbox.due(1.0) == RESEND_SECONDS
    ((_, again),) = sent(outbox, RESEND_SECONDS)
    assert again.rows == first.rows
    assert sent(outbox, 2.5 * RESEND_SECONDS) == [], "each resend waits longer"
    assert outbox.acknowledge(Ack(1, stream, first.epoch, 1)) == 1
    assert outbox.stats().rows == 0
    assert outbox.due(1.0) is None


def test_a_batch_the_link_refused_is_due_at_once() -> None:
    outbox = Outbox(connect())
    outbox.put_event(event("one"))
    ((stream, batch),) = sent(outbox, 0.0)
    outbox.not_sent(stream, batch)
    assert sent(outbox, 0.0)[0][1].rows == batch.rows


def test_at_most_64_rows_are_in_flight() -> None:
    outbox = Outbox(connect())
    for n in range(100):
        outbox.put_summary(window(n, 5))
    flying = sum(len(batch.rows) for _, batch in sent(outbox, 0.0))
    assert flying == limits.IN_FLIGHT_ROWS_MAX == outbox.stats().in_flight


def test_every_batch_fits_a_message() -> None:
    outbox = Outbox(connect())
    for n in range(60):
        outbox.put_event(event("x" * 500 + str(n)))
        outbox.put_summary(window(n, 300, seed=n))
    batches = sent(outbox, 0.0)
    for _, batch in batches:
        messages.encode(batch)
    assert sum(len(batch.rows) for _, batch in batches) == 120


def test_a_full_outbox_merges_neighbours_and_loses_no_count() -> None:
    outbox = Outbox(connect(), bytes_max=24 * 1024)
    fed = 0
    for n in range(400):
        outbox.put_summary(window(300.0 * n, 7 + n % 5, seed=n))
        fed += 7 + n % 5
    stats = outbox.stats()
    assert stats.bytes <= 24 * 1024
    assert stats.merged > 0
    assert stats.dropped_summaries == 0
    hub = IdealHub()
    drain(outbox, hub, 0.0)
    payloads = hub.payloads("summary")
    assert inferences(payloads) == fed
    headers = [summary_wire.peek(payload) for payload in payloads]
    assert sum(h.summary.windows for h in headers if isinstance(h, summary_wire.Header)) == 400


def test_windows_of_different_manifests_are_never_merged() -> None:
    outbox = Outbox(connect(), bytes_max=12 * 1024)
    fed = {"aa" * 32: 0, "bb" * 32: 0}
    for n in range(120):
        manifest = ("aa" if n % 3 else "bb") * 32
        outbox.put_summary(window(n, 10 + n, manifest=manifest, seed=n))
        fed[manifest] += 10 + n
    hub = IdealHub()
    drain(outbox, hub, 0.0)
    counted = dict.fromkeys(fed, 0)
    for payload in hub.payloads("summary"):
        summary = summary_wire.decode(payload, BASELINE)
        assert isinstance(summary, Summary)
        counted[summary.manifest] += summary.counts.inferences
    assert counted == fed


def test_rows_in_flight_are_not_merged() -> None:
    outbox = Outbox(connect(), bytes_max=16 * 1024)
    hub = IdealHub()
    for n in range(20):
        outbox.put_summary(window(n, 10, seed=n))
    for item in sent(outbox, 0.0):
        hub.receive(*item)  # its acknowledgements are lost
    for n in range(200):
        outbox.put_summary(window(n, 10, seed=n))
    drain(outbox, hub, 1.0)
    assert inferences(hub.payloads("summary")) == 2200


def test_rows_in_flight_leave_room_for_those_that_can_be_merged() -> None:
    outbox = Outbox(connect(), bytes_max=4 * 1024)
    hub = IdealHub()
    for n in range(200):
        outbox.put_summary(window(n, 10, seed=n))
        for item in sent(outbox, float(n)):
            hub.receive(*item)  # its acknowledgements are lost
        stats = outbox.stats()
        assert stats.bytes <= 4 * 1024
        assert stats.dropped_summaries == 0
        due = outbox.due(float(n))
        assert due is not None
        assert due > n  # with rows waiting, and none of them may go
    drain(outbox, hub, 1000.0)
    assert inferences(hub.payloads("summary")) == 2000


def test_events_beyond_their_share_are_given_up_oldest_first_and_counted() -> None:
    outbox = Outbox(connect(), bytes_max=64 * 1024)
    for n in range(100):
        outbox.put_event(event(f"{n} " + "x" * 400))
    hub = IdealHub()
    dropped = outbox.stats().dropped_events
    assert 0 < dropped < 100
    drain(outbox, hub, 0.0)
    kept = [messages.decode(payload, Event).detail.split()[0] for payload in hub.payloads("event")]
    assert kept == [str(n) for n in range(dropped, 100)]


def test_an_event_makes_room_among_the_summaries_of_a_full_outbox() -> None:
    outbox = Outbox(connect(), bytes_max=8 * 1024)
    while outbox.stats().merged == 0:
        outbox.put_summary(window(outbox.stats().rows, 10))
    for n in range(20):
        outbox.put_event(event("x" * 100 + str(n)))
        assert outbox.stats().bytes <= 8 * 1024
    assert outbox.stats().dropped_summaries == 0


def test_an_acknowledgement_of_another_epoch_changes_nothing() -> None:
    outbox = Outbox(connect())
    outbox.put_summary(window(0, 10))
    sent(outbox, 0.0)
    assert outbox.acknowledge(Ack(1, "summary", b"somebody else's!", 64)) == 0
    assert outbox.stats().rows == 1


def test_an_acknowledgement_forgets_the_rows_it_names_and_no_other() -> None:
    outbox = Outbox(connect())
    for number in range(5):
        outbox.put_event(event(f"event {number}"))
    ((stream, batch),) = sent(outbox, 0.0)
    third = batch.rows[2].sequence
    assert outbox.acknowledge(Ack(1, stream, batch.epoch, third)) == 3
    assert outbox.acknowledge(Ack(1, stream, batch.epoch, third)) == 0
    outbox.reconnected()
    ((_, rest),) = sent(outbox, 0.0)
    assert [row.sequence for row in rest.rows] == [third + 1, third + 2]


def test_a_restored_backup_begins_a_new_epoch(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.db")
    hub = IdealHub()
    outbox = Outbox(connection)
    outbox.put_summary(window(0, 10))
    drain(outbox, hub, 0.0)
    backup = connect(tmp_path / "b.db")
    connection.backup(backup)
    outbox.put_summary(window(300, 20))
    drain(outbox, hub, 0.0)

    restored = Outbox(backup)
    for n in range(3):
        restored.put_summary(window(600 + n, 40, seed=n))
    for item in sent(restored, 0.0)[:1]:
        # The hub has sequence 2 already, from before the restore; ours is another row.
        stream, batch = item
        restored.acknowledge(Ack(1, stream, batch.epoch, 5))
    restored.put_summary(window(900, 80))
    ((_, batch),) = sent(restored, 0.0)
    assert batch.rows[0].sequence == 1
    assert batch.epoch not in {epoch for _, epoch, _ in hub.rows}


def test_put_joins_an_open_transaction() -> None:
    connection = connect()
    outbox = Outbox(connection)
    connection.execute("BEGIN")
    outbox.put_summary(window(0, 10))
    outbox.put_event(event("x"))
    connection.execute("ROLLBACK")
    assert outbox.stats().rows == 0
    outbox.put_summary(window(0, 10))
    assert outbox.stats().rows == 1
    connection.execute("BEGIN")
    with pytest.raises(AssertionError):
        outbox.next(0.0, stamp(0))


class OutboxAgainstABadWorld(RuleBasedStateMachine):
    """Any order of puts, sends, losses, duplicates, delays, restarts and rolled-back writes."""

    up = Bundle("up")
    down = Bundle("down")

    def __init__(self) -> None:
        super().__init__()
        self.connection = connect()
        self.hub = IdealHub()
        self.now = 0.0
        self.fed = 0
        self.events: list[str] = []
        self.puts = 0
        self.restart()

    @rule()
    def restart(self) -> None:
        self.outbox = Outbox(self.connection, bytes_max=14 * 1024)

    @rule(n=st.integers(1, 40), manifest=st.sampled_from(["aa", "bb"]), times=st.integers(1, 8))
    def put_windows(self, n: int, manifest: str, times: int) -> None:
        for _ in range(times):
            self.puts += 1
            self.outbox.put_summary(window(self.now, n, manifest=manifest * 32, seed=self.puts))
            self.fed += n

    @precondition(lambda self: len(self.events) < 8)
    @rule()
    def put_event(self) -> None:
        self.events.append(f"event {len(self.events)}")
        self.outbox.put_event(event(self.events[-1]))

    @rule(n=st.integers(1, 40))
    def crash_before_commit(self, n: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.outbox.put_summary(window(self.now, n))
        self.connection.execute("ROLLBACK")
        self.restart()

    @rule(target=up)
    def send(self) -> tuple[Stream, Batch] | None:
        return self.outbox.next(self.now, stamp(self.now))

    @rule(target=down, item=up)
    def deliver(self, item: tuple[Stream, Batch] | None) -> Ack | None:
        """Any message ever sent may arrive, now or later, once or often, or never."""
        return None if item is None else self.hub.receive(*item)

    @rule(ack=down)
    def acknowledge(self, ack: Ack | None) -> None:
        if ack is not None:
            self.outbox.acknowledge(ack)

    @rule(seconds=st.sampled_from([1.0, 30.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reconnect(self) -> None:
        self.outbox.reconnected()

    @invariant()
    def it_stays_within_its_bounds(self) -> None:
        stats = self.outbox.stats()
        assert stats.in_flight <= 2 * limits.IN_FLIGHT_ROWS_MAX
        assert stats.dropped_events == stats.dropped_summaries == 0 or stats.in_flight > 0

    def teardown(self) -> None:
        dropped = self.outbox.stats().dropped_summaries
        drain(self.outbox, self.hub, self.now)
        if not dropped:
            assert inferences(self.hub.payloads("summary")) == self.fed
        got = [messages.decode(payload, Event).detail for payload in self.hub.payloads("event")]
        assert got == self.events
        self.connection.close()


TestOutboxAgainstABadWorld = OutboxAgainstABadWorld.TestCase
TestOutboxAgainstABadWorld.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
