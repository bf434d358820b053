"""Somebody watches the watchers: a part that is dead, retrying or out of room opens an alert."""

import threading
from pathlib import Path

import pytest
from sqlmodel import select

from muster_hub.app.watch import Watch, conditions
from muster_hub.heartbeats import Heartbeats
from muster_hub.reconcile import lease
from muster_hub.reconcile.engine import LEASE
from muster_hub.settings.alerts import Alerts, Receiver
from muster_hub.storage.alerting import WebhookDelivery
from muster_hub.storage.disk import Room, room_of
from muster_hub.storage.models import Alert
from muster_protocol.wire.limits import MIB
from support.hub_store import open_store

AMPLE = Room(50_000 * MIB, 100_000 * MIB)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def beats(clock: Clock) -> Heartbeats:
    return Heartbeats(clock)


def run(part, work) -> None:
    thread = threading.Thread(target=part.watching(work))
    thread.start()
    thread.join()


def test_a_thread_that_dies_is_dead_and_says_of_what(beats: Heartbeats):
    def work() -> None:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")

    run(beats.part("ingest", 30.0), work)
    standing = beats.standings()["ingest"]
    assert (standing.state, standing.ok) == ("dead", False)
    assert "OverflowError: Python int too large" in standing.detail


def test_a_thread_that_ends_unasked_is_no_part_that_works(beats: Heartbeats):
    run(beats.part("publisher", 30.0), lambda: None)
    assert not beats.standings()["publisher"].ok


def test_a_thread_that_hangs_is_silent_after_its_time(beats: Heartbeats, clock: Clock):
    part = beats.part("engine", 30.0)
    part.beat()
    clock.seconds += 29
    assert beats.standings()["engine"].ok
    clock.seconds += 2
    assert beats.standings()["engine"].state == "silent"
    part.beat()
    assert beats.standings()["engine"].ok


def test_a_part_that_retries_says_why_and_since_when(beats: Heartbeats, clock: Clock):
    part = beats.part("ingest", 30.0)
    part.retrying(ValueError("no\x1b[2J\nsecret second line"))
    clock.seconds += 12
    part.retrying(ValueError("still"))
    standing = beats.standings()["ingest"]
    assert (standing.state, standing.seconds, standing.detail) == (
        "retrying", 12, "ValueError: still",
    )  # fmt: skip
    part.retrying(ValueError("no\x1b[2J\nsecret second line"))
    assert beats.standings()["ingest"].detail == "ValueError: no\ufffd[2J"


def test_a_short_retry_is_no_trouble_a_dead_part_is_at_once(beats: Heartbeats, clock: Clock):
    beats.part("ingest", 300.0).retrying("the database is locked")
    run(beats.part("engine", 300.0), lambda: None)
    assert [item.key for item in conditions(beats.standings(), AMPLE)] == ["hub/engine"]
    clock.seconds += 11
    found = {item.key: item for item in conditions(beats.standings(), AMPLE)}
    assert set(found) == {"hub/engine", "hub/ingest"}
    assert (found["hub/engine"].severity, found["hub/ingest"].severity) == ("critical", "warning")


@pytest.mark.parametrize(
    ("free_mib", "state"), [(50_000, "ok"), (1_000, "low"), (200, "full"), (0, "full")]
)
def test_a_disk_is_told_of_before_it_is_full(beats: Heartbeats, free_mib: int, state: str):
    room = Room(free_mib * MIB, 100_000 * MIB)
    assert room.state == state
    found = [item.title for item in conditions(beats.standings(), room)]
    assert len(found) == (state != "ok")


def test_the_room_is_that_of_the_directorys_disk(tmp_path: Path):
    room = room_of(tmp_path)()
    assert 0 <= room.free_bytes <= room.total_bytes
    assert room.refuses(room.total_bytes + 1)


def test_with_the_engine_dead_its_alert_opens_is_sent_and_resolves(tmp_path: Path, clock, beats):
    store = open_store(tmp_path)
    receiver = Receiver(name="ops", kind="webhook", url="https://ops.test", secret_file="k")
    alerts = Alerts(receivers=(receiver,), group_seconds=0.0)
    watch = Watch(store, beats, lambda: AMPLE, alerts, holder="here", now=clock)
    part = beats.part("engine", 30.0)
    run(part, lambda: None)
    assert watch.look() == 1
    clock.seconds += 1
    watch.look()
    with store.read() as session:
        alert = session.exec(select(Alert)).one()
        queued = session.exec(select(WebhookDelivery)).all()
    assert (alert.key, alert.kind, alert.state) == ("hub/engine", "hub", "open")
    assert len(queued) == 1
    part.beat()
    for _ in range(3):
        clock.seconds += 61
        part.beat()
        watch.look()
    with store.read() as session:
        assert session.exec(select(Alert)).one().state == "resolved"
    store.close()


def test_an_engine_that_hung_while_the_watch_acted_finds_its_epoch_over(
    tmp_path: Path, clock, beats
):
    store = open_store(tmp_path)
    watch = Watch(store, beats, lambda: AMPLE, Alerts(), holder="here", now=clock)
    run(beats.part("engine", 30.0), lambda: None)
    with store.write() as session:
        hung = lease.take(session, LEASE, "here", lease.NONE, clock())
    clock.seconds += 2 * lease.LEASE_SECONDS
    watch.look()
    with store.write() as session:
        assert lease.take(session, LEASE, "here", hung, clock()) > hung
    store.close()
