"""What can't be taken is set aside alone, under its sender; everyone else is served."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from muster_hub.fleet import set_aside
from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.commit import EPOCHS_PER_STREAM_MAX
from muster_hub.mqtt.intake import Intake, Taken
from muster_hub.storage import models, quarantine
from muster_hub.storage.quarantine import SetAside
from muster_hub.storage.store import Store
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Presence
from support.hub_store import batch, event, open_store, report, summary
from support.schema import encoded

NOW = 1_000_000.0
HOSTILE, OTHERS = "dev-1", ("dev-2", "dev-3")


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    store = open_store(tmp_path, HOSTILE, *OTHERS, url=database)
    yield store
    store.close()


def intake(store: Store) -> Intake:
    """It gives up at once where it would wait: nothing here may be taken for a busy database."""
    return Intake(store, lambda _seconds: True)


def hostile(leaf: str, payload: bytes) -> tuple[str, bytes]:
    return topics.up(HOSTILE, leaf), payload


def wide_report(**changed: object) -> bytes:
    tree = {"at": [b"boot", 1.0, 0.0, "unknown"], "facts": {"agent_version": "1"}} | changed
    return encoded(tree)


def raw_batch(sequence: object = 1, payload: bytes = b"", **sent: object) -> bytes:
    stamp = [sent.get("boot", b"boot"), sent.get("monotonic", 1.0), sent.get("wall", 0.0), "floor"]
    return encoded([1, bytes(12), stamp, [[sequence, payload]]])


MESSAGES = {
    "a sequence wider than a column": hostile("telemetry", raw_batch(2**63)),
    "a sequence as wide as can be": hostile("telemetry", raw_batch(2**64 - 1)),
    "a moment that is no number": hostile("event", raw_batch(monotonic=float("nan"))),
    "a moment without end": hostile("telemetry", raw_batch(wall=float("inf"))),
    "a generation wider than a column": hostile("report", wide_report(generation=2**63)),
    "a grant of a generation too wide": hostile(
        "grant",
        encoded({"nonce": bytes(12), "slot": "v", "manifest": "ab" * 32, "generation": 2**63}),
    ),
    "fewer inferences than none": hostile(
        "report",
        wide_report(
            slots={"v": {"health": "ok", "update": {"state": "idle"}, "running": {
                "model": "m", "version": "1", "manifest": "ab" * 32, "runtime": "onnx",
                "since": [b"boot", 0.0, 0.0, "floor"], "inferences": -5}}}
        ),
    ),
    "not MessagePack": hostile("report", b"\xc1"),
    "nested without end": hostile("report", b"\x91" * 60_000),
}  # fmt: skip


def honest() -> list[tuple[str, bytes]]:
    return [(topics.up(name, "telemetry"), batch({1: summary(7)})) for name in OTHERS]


def acknowledged(done: Taken | None) -> set[str]:
    assert done is not None
    return {device for device, ack in done.acks if ack.sequence == 1}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_hostile_message_among_others_costs_nobody_else_anything(store: Store, message):
    first, second = honest()
    taken = intake(store)
    assert acknowledged(taken.take([first, message, second], NOW)) >= set(OTHERS)
    assert taken.counters.set_aside == 1
    with store.read() as session:
        device = session.get(models.Device, HOSTILE)
        kept = set_aside.kept(session, HOSTILE, 10)
    assert device is not None
    assert (device.set_aside, device.set_aside_at) == (1, NOW)
    assert device.set_aside_fault
    assert [row.payload[:64] for row in kept] == [message[1][:64]]
    assert taken.senders.latest() == {HOSTILE: 1}


def test_an_old_agents_text_with_control_characters_is_taken_and_cleaned(store: Store):
    topic, payload = hostile("report", wide_report(refusal_detail="\x1b]52;c;ZXZpbA==\x07 \0"))
    taken = intake(store)
    taken.take([(topic, payload)], NOW)
    with store.read() as session:
        device = session.get(models.Device, HOSTILE)
    assert device is not None
    assert device.report is not None
    assert device.report["refusal_detail"] == "\ufffd]52;c;ZXZpbA==\ufffd \ufffd"
    assert taken.counters.set_aside == 0


class Refusing(Store):
    """A database that refuses any transaction that would write one particular text."""

    def __init__(self, inner: Store, refused: str, error: Exception) -> None:
        self.engine = inner.engine
        self._inner, self._refused, self._error = inner, refused, error
        self.tried = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        with self._inner.write() as session:
            yield session
            session.flush()
            found = session.exec(
                select(models.EventRow.id).where(models.EventRow.model == self._refused)
            ).first()
            if found is not None:
                self.tried += 1
                raise self._error

    @contextmanager
    def read(self) -> Iterator[Session]:
        with self._inner.read() as session:
            yield session


def test_of_a_batch_the_database_refuses_only_the_row_at_fault_is_set_aside(store: Store):
    refusing = Refusing(store, "poison", OverflowError("too wide"))
    rows = {n: event(model="poison" if n == 5 else "digits") for n in range(1, 9)}
    taken = intake(refusing)
    done = taken.take([honest()[0], (topics.up(HOSTILE, "event"), batch(rows)), honest()[1]], NOW)
    assert acknowledged(done) >= set(OTHERS)
    assert done is not None
    assert max(ack.sequence for device, ack in done.acks if device == HOSTILE) == 8
    with store.read() as session:
        kinds = session.exec(
            select(models.EventRow.kind)
            .where(models.EventRow.device == HOSTILE)
            .order_by(models.EventRow.sequence)
        ).all()
        device = session.get(models.Device, HOSTILE)
    assert kinds == ["refused"] * 4 + ["unreadable"] + ["refused"] * 3
    assert device is not None
    assert "OverflowError" in device.set_aside_fault


def test_what_passes_is_tried_again_and_said_meanwhile(store: Store):
    busy = OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked"))
    refusing = Refusing(store, "poison", busy)
    waits: list[float] = []
    part = Heartbeats().part("ingest", 60.0)

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        assert part.standing().state == "retrying"
        return len(waits) == 3

    taken = Intake(refusing, pause, part)
    assert (
        taken.take([(topics.up(HOSTILE, "event"), batch({1: event(model="poison")}))], NOW) is None
    )
    assert taken.counters.retries == 3
    assert taken.counters.set_aside == 0
    assert waits == sorted(waits)


def test_no_flood_of_junk_grows_the_database(store: Store):
    taken = intake(store)
    for minute in range(quarantine.ROWS_PER_DEVICE_MAX + 5):
        junk = [hostile("report", b"\xc1" + bytes(9_000)) for _ in range(50)]
        taken.take(junk, NOW + 61.0 * minute)
    with store.read() as session:
        rows = session.exec(select(SetAside)).all()
        device = session.get(models.Device, HOSTILE)
    assert len(rows) == quarantine.ROWS_PER_DEVICE_MAX
    assert max(len(row.payload) for row in rows) == quarantine.PAYLOAD_BYTES_KEPT
    assert device is not None
    assert device.set_aside == 50 * (quarantine.ROWS_PER_DEVICE_MAX + 5)


def test_a_hoarder_of_epochs_keeps_the_newest_and_its_stream_stays_short(store: Store):
    taken = intake(store)
    for number in range(40):
        epoch = number.to_bytes(12, "big")
        message = topics.up(HOSTILE, "telemetry"), batch({1: summary(1)}, epoch=epoch)
        done = taken.take([message], NOW + number)
        assert acknowledged(done) == {HOSTILE}
    with store.read() as session:
        marks = session.exec(select(models.Stream).where(models.Stream.device == HOSTILE)).all()
    assert len(marks) == EPOCHS_PER_STREAM_MAX
    assert max(mark.updated for mark in marks) == NOW + 39
    last = (39).to_bytes(12, "big")
    again = topics.up(HOSTILE, "telemetry"), batch({1: summary(1), 2: summary(1)}, epoch=last)
    done = taken.take([again], NOW + 50)
    assert done is not None
    assert done.acks[0][1].sequence == 2


def test_a_device_that_is_not_known_is_counted_and_leaves_nothing(store: Store):
    taken = intake(store)
    taken.take([(topics.up("stranger", "report"), b"\xc1")], NOW)
    taken.take([(topics.up(HOSTILE, "presence"), messages.encode(Presence(online=True)))], NOW)
    with store.read() as session:
        assert session.exec(select(SetAside)).all() == []
    assert taken.counters.set_aside == 1


def test_a_report_is_taken_as_before(store: Store):
    taken = intake(store)
    taken.take([(topics.up(HOSTILE, "report"), report(generation=4))], NOW)
    assert (taken.counters.reports, taken.counters.set_aside) == (1, 0)
