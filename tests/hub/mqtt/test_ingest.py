"""What devices say is committed exactly once, and acknowledged only then."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import delete, select

from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.broker import Broker
from muster_hub.mqtt.client import HubClient
from muster_hub.mqtt.commit import Committed, commit
from muster_hub.mqtt.inbound import Malformed, Rows, anchor, read
from muster_hub.mqtt.inbox import Inbox
from muster_hub.mqtt.ingest import Ingest
from muster_hub.storage import models
from muster_hub.storage.store import Store
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Ack, Presence, Want
from support.broker_kit import Authority, DeviceClient, broker_config
from support.hub_store import (
    BOOT,
    EPOCH,
    batch,
    event,
    open_store,
    report,
    stamp,
    summary,
)
from support.waiting import eventually

TELEMETRY = topics.up("dev-1", "telemetry")
NOW = 1_000_000.0


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    store = open_store(tmp_path, "dev-1", "dev-2", url=database)
    yield store
    store.close()


def take(store: Store, topic: str, *payloads: bytes, now: float = NOW) -> Committed:
    with store.write() as session:
        return commit(session, [read(topic, payload, now) for payload in payloads], now)


def rows(store: Store) -> list[models.SummaryWindow]:
    with store.read() as session:
        found = session.exec(select(models.SummaryWindow).order_by(models.SummaryWindow.sequence))
        return list(found.all())


def marks(done: Committed) -> list[int]:
    return [ack.sequence for _, ack in done.acks]


def test_rows_are_acknowledged_up_to_the_first_gap_and_again_when_it_is_filled(store: Store):
    assert marks(take(store, TELEMETRY, batch({2: summary(), 3: summary()}))) == [0]
    assert marks(take(store, TELEMETRY, batch({5: summary()}))) == [0]
    assert marks(take(store, TELEMETRY, batch({1: summary()}))) == [3]
    assert marks(take(store, TELEMETRY, batch({4: summary()}))) == [5]
    assert [row.sequence for row in rows(store)] == [1, 2, 3, 4, 5]


def test_a_batch_that_comes_twice_counts_once_and_is_acknowledged_twice(store: Store):
    payload = batch({1: summary(7), 2: summary(8)})
    assert marks(take(store, TELEMETRY, payload)) == [2]
    done = take(store, TELEMETRY, payload, payload)
    assert marks(done) == [2]
    assert done.duplicates == 2
    assert sum(row.n for row in rows(store)) == 15


def test_a_batch_that_comes_again_after_its_windows_were_deleted_counts_no_second_time(
    store: Store,
):
    payload = batch({1: summary(7), 2: summary(8)})
    take(store, TELEMETRY, payload)
    with store.write() as session:
        session.exec(delete(models.SummaryWindow))  # As they are once they are hours and days.
    done = take(store, TELEMETRY, payload)
    assert (marks(done), done.duplicates) == ([2], 2)
    assert rows(store) == []


def test_streams_epochs_and_devices_are_counted_apart(store: Store):
    take(store, TELEMETRY, batch({1: summary()}))
    other = take(store, TELEMETRY, batch({1: summary()}, epoch=b"another epoch"[:12]))
    events = take(store, topics.up("dev-1", "event"), batch({1: event()}))
    device = take(store, topics.up("dev-2", "telemetry"), batch({1: summary()}))
    assert marks(other) == marks(events) == marks(device) == [1]
    assert len(rows(store)) == 3


def test_a_hub_restored_from_a_backup_does_not_wait_for_rows_that_are_gone(store: Store):
    take(store, TELEMETRY, batch({sequence: summary() for sequence in range(1, 5)}))
    done = take(store, TELEMETRY, batch({sequence: summary() for sequence in range(501, 565)}))
    assert marks(done) == [564]
    assert done.skipped_rows == 496


def test_an_unknown_device_is_not_acknowledged(store: Store):
    done = take(store, topics.up("stranger", "telemetry"), batch({1: summary()}))
    assert (done.acks, done.unknown_devices) == ([], 1)
    assert rows(store) == []


def test_a_summary_that_can_not_be_read_is_kept_whole_and_blocks_nothing(store: Store):
    done = take(store, TELEMETRY, batch({1: b"\x01nonsense", 2: b"\x63later", 3: summary(4)}))
    assert marks(done) == [3]
    broken, newer, good = rows(store)
    assert broken.payload == b"\x01nonsense"
    assert broken.fault
    assert newer.fault == "summary version 99 is newer than this hub knows"
    assert (good.n, good.fault) == (4, "")


def test_an_event_keeps_all_it_says(store: Store):
    payload = event(refusal="golden_mismatch", model="digits", version="2", generation=5)
    take(store, topics.up("dev-1", "event"), batch({1: payload, 2: b"broken"}))
    with store.read() as session:
        first, second = session.exec(select(models.EventRow)).all()
    assert (first.kind, first.refusal, first.generation) == ("refused", "golden_mismatch", 5)
    assert first.data["version"] == "2"
    assert second.kind == "unreadable"


def test_a_device_that_reports_is_there_though_its_word_of_it_was_lost(store: Store):
    presence = topics.up("dev-1", "presence")
    for reported in (False, True):
        take(store, presence, messages.encode(Presence(online=False)), now=NOW + 1)
        if reported:
            take(store, topics.up("dev-1", "report"), report(generation=1), now=NOW + 2)
        with store.read() as session:
            device = session.get(models.Device, "dev-1")
        assert device is not None
        assert device.online is reported
    assert device.online_changed == NOW + 2


def test_report_and_presence_are_state_the_latest_wins(store: Store):
    take(store, topics.up("dev-1", "presence"), messages.encode(Presence(online=True)))
    take(store, topics.up("dev-1", "report"), report(generation=1), report(generation=2))
    with store.read() as session:
        device = session.get(models.Device, "dev-1")
    assert device is not None
    assert (device.online, device.last_seen, device.online_changed) == (True, NOW, NOW)
    assert device.report is not None
    assert device.report["generation"] == 2


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TELEMETRY, b"nonsense"),
        (TELEMETRY, messages.encode(Presence(online=True))),
        (topics.up("dev-1", "want"), messages.encode(Want(["../../etc/passwd"]))),
        (topics.up("dev-1", "csr"), b"x"),
        ("muster/v1/up/dev-1/else", b"x"),
        (topics.up("dev-1", "report"), bytes(200_000)),
    ],
)
def test_what_can_not_be_read_is_malformed_never_an_exception(topic: str, payload: bytes):
    assert isinstance(read(topic, payload, NOW), Malformed)


@pytest.mark.parametrize("sequences", [(1, 1), (2, 1), (1, 3, 2)])
def test_a_batch_whose_numbers_do_not_rise_is_malformed(sequences: tuple[int, ...]):
    rows = [messages.Row(sequence, summary()) for sequence in sequences]
    whole = messages.Batch(1, EPOCH, stamp(50), rows)
    assert isinstance(read(TELEMETRY, messages.encode(whole), NOW), Malformed)


def test_a_window_is_placed_by_the_devices_monotonic_clock_at_receipt():
    found = read(TELEMETRY, batch({1: summary(opened=100, closed=160)}, sent=200), NOW)
    assert isinstance(found, Rows)
    assert (found.rows[1]["start"], found.rows[1]["seconds"]) == (NOW - 100, 60)


def test_a_stamp_of_an_earlier_boot_is_placed_by_a_synchronised_clock_only():
    sent = stamp(50)
    assert anchor(stamp(10), sent, NOW) == NOW - 40
    assert anchor(stamp(99), sent, NOW) == NOW
    assert anchor(stamp(10, boot=b"previous", wall=NOW - 500), sent, NOW) == NOW - 500
    assert anchor(stamp(10, boot=b"previous", wall=NOW + 500), sent, NOW) == NOW
    assert anchor(stamp(10, boot=b"previous"), sent, NOW) == NOW
    assert stamp(10).boot == BOOT


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True), max_size=10),
    st.data(),
)
def test_any_order_and_repetition_commits_each_row_once(tmp_path_factory, batches, data):
    store = open_store(tmp_path_factory.mktemp("db"), "dev-1")
    try:
        seen: set[int] = set()
        for sequences in batches:
            done = take(store, TELEMETRY, batch({n: summary(n) for n in sequences}))
            seen |= set(sequences)
            whole = next(n for n in range(14) if n + 1 not in seen)
            assert marks(done) == [whole]
        assert [row.sequence for row in rows(store)] == sorted(seen)
        assert sum(row.n for row in rows(store)) == sum(seen)
    finally:
        store.close()


class Running:
    """Ingest on a real broker."""

    def __init__(self, store: Store, broker: Broker, **options: Any) -> None:
        self.wants: queue.Queue[tuple[str, tuple[str, ...]]] = queue.Queue()
        self.ingest = Ingest(
            store,
            broker.address,
            on_want=lambda device, chunks, _last_resort: self.wants.put((device, chunks)),
            on_change=lambda: None,
            **options,
        )
        self.ingest.start()
        assert self.ingest.client.wait_connected(5)
        # The broker takes a connection's packets in order: this answer speaks for its SUBSCRIBE.
        self.ingest.client._paho.publish("muster/v1/hub/settled", qos=1).wait_for_publish(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(broker_config(authority, tmp_path_factory.mktemp("broker")))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def running(store: Store, broker: Broker) -> Iterator[Running]:
    running = Running(store, broker)
    yield running
    running.ingest.stop()


@pytest.fixture
def device(broker: Broker, authority: Authority) -> Iterator[DeviceClient]:
    client = DeviceClient(authority, broker.config.port, "dev-1")
    client.subscribe(topics.down("dev-1", "ack"))
    yield client
    client.close()


def ack(device: DeviceClient) -> Ack:
    topic, payload = device.next()
    assert topic == topics.down("dev-1", "ack")
    return messages.decode(payload, Ack)


def test_a_device_is_acknowledged_from_the_database(
    running: Running, device: DeviceClient, store: Store
):
    device.publish(TELEMETRY, batch({1: summary(3), 2: summary(4)}))
    assert ack(device) == Ack(1, "summary", EPOCH, 2)
    assert [row.n for row in rows(store)] == [3, 4]
    device.publish(TELEMETRY, batch({1: summary(3)}))
    assert ack(device) == Ack(1, "summary", EPOCH, 2)
    assert running.ingest.counters.duplicates == 1


def test_what_can_not_be_read_is_counted_recorded_once_and_holds_nothing_up(
    running: Running, device: DeviceClient, store: Store
):
    for _ in range(3):
        device.publish(TELEMETRY, b"nonsense")
    device.publish(TELEMETRY, batch({1: summary()}))
    assert ack(device).sequence == 1
    assert running.ingest.counters.malformed == 3
    with store.read() as session:
        (recorded,) = session.exec(select(models.EventRow)).all()
    assert recorded.kind == "malformed"
    assert "dev-1 sent what can't be read" in recorded.detail


def test_a_want_is_handed_on(running: Running, device: DeviceClient):
    device.publish(topics.up("dev-1", "want"), messages.encode(Want(["ab" * 32])))
    assert running.wants.get(timeout=60) == ("dev-1", ("ab" * 32,))


def test_messages_that_come_while_the_hub_is_away_are_taken_in_when_it_returns(
    store: Store, broker: Broker, device: DeviceClient
):
    first = Running(store, broker)
    device.publish(TELEMETRY, batch({1: summary()}))
    assert ack(device).sequence == 1
    first.ingest.stop()
    device.publish(TELEMETRY, batch({2: summary()}))
    second = Running(store, broker)
    try:
        assert ack(device).sequence == 2
    finally:
        second.ingest.stop()


def test_a_device_that_vanishes_is_seen_offline_by_its_will(
    running: Running, device: DeviceClient, store: Store
):
    online = topics.up("dev-1", "presence")
    device.publish(online, messages.encode(Presence(online=True)), retain=True)

    def state() -> bool:
        with store.read() as session:
            found = session.get(models.Device, "dev-1")
            return found is not None and found.online

    assert eventually(state)
    device.publish(online, messages.encode(Presence(online=False)), retain=True)
    assert eventually(lambda: not state())


def test_a_thousand_batches_are_committed_and_acknowledged(
    running: Running, device: DeviceClient, store: Store
):
    for number in range(250):
        first = 4 * number + 1
        device.send(TELEMETRY, batch({first + k: summary(1) for k in range(4)}))
    assert eventually(lambda: len(rows(store)) == 1000, 30)
    last = 0
    while last < 1000:
        mark = ack(device).sequence
        assert mark >= last
        last = mark
    assert running.ingest.inbox.waiting == 0


def test_when_more_comes_than_is_written_the_broker_is_held_back_and_every_row_is_kept(
    store: Store, broker: Broker, device: DeviceClient
):
    heartbeats = Heartbeats()
    running = Running(store, broker, inbox=Inbox(messages_max=8), heartbeats=heartbeats)
    try:
        with store.write() as session:  # nobody else can write meanwhile
            row = session.get(models.Device, "dev-1", with_for_update=True)
            assert row is not None
            for number in range(1, 201):
                device.send(TELEMETRY, batch({number: summary(1)}))
            assert eventually(lambda: running.ingest.inbox.blocked)
            said = running.ingest.health()
            assert not said["ok"]
            assert "more comes than is written" in said["detail"]
            assert "the broker is held back" in said["detail"]
        assert eventually(lambda: len(rows(store)) == 200)
        assert eventually(lambda: running.ingest.health()["ok"])
        assert eventually(lambda: heartbeats.standings()["ingest"].ok)
    finally:
        running.ingest.stop()
    assert [row.sequence for row in rows(store)] == list(range(1, 201))


def test_a_hub_client_that_stops_leaves_the_broker(broker: Broker):
    client = HubClient(broker.address, "muster-hub-brief")
    client.start()
    assert client.wait_connected(5)
    client.stop()
    assert not client.connected


@pytest.mark.system
def test_two_that_share_what_comes_commit_every_row_once_and_each_its_share(
    store: Store, broker: Broker, device: DeviceClient
):
    both = [Running(store, broker, number=number) for number in (1, 2)]
    try:
        for sequence in range(1, 41):
            device.publish(TELEMETRY, batch({sequence: summary()}))
        device.publish(topics.up("dev-1", "presence"), messages.encode(Presence(online=True)))
        assert eventually(lambda: [row.sequence for row in rows(store)] == list(range(1, 41)))
        taken = [running.ingest.counters.rows for running in both]
        assert sum(taken) == 40
        assert min(taken) > 0
        assert eventually(
            lambda: all(each.ingest.counters.messages > each.ingest.counters.rows for each in both)
        ), "presence, which is retained, is heard by both"
        both.pop().ingest.stop()
        for sequence in range(41, 61):
            device.publish(TELEMETRY, batch({sequence: summary()}))
        assert eventually(lambda: len(rows(store)) == 60), "one that ended keeps no share"
    finally:
        for running in both:
            running.ingest.stop()
