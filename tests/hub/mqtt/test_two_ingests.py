"""Two ingests on one database: each row once, and no mark that goes back, whoever comes first."""

import random
import threading

from sqlmodel import func, select

from muster_hub.mqtt.intake import Intake
from muster_hub.storage.models import Stream, SummaryWindow
from muster_protocol.wire import topics
from support.hub_store import EPOCH, batch, open_store, summary

DEVICES = [f"dev-{number}" for number in range(8)]
ROWS, MESSAGES, BATCH = 60, 400, 20


def messages(seed: int) -> list[tuple[str, bytes]]:
    """Rows of all devices, in pieces that overlap, each piece in some order and more than once."""
    drawn = random.Random(seed)
    payload = summary()
    made = []
    for _ in range(MESSAGES):
        first = drawn.randint(1, ROWS)
        rows = dict.fromkeys(range(first, min(first + drawn.randint(1, 6), ROWS + 1)), payload)
        made.append((topics.up(drawn.choice(DEVICES), "telemetry"), batch(rows)))
    return made


def test_of_two_ingests_with_the_same_devices_neither_loses_nor_doubles_nor_sets_back(
    database, tmp_path
):
    store = open_store(tmp_path, *DEVICES, url=database)
    everything = [
        (topics.up(name, "telemetry"), batch({n: summary() for n in range(1, ROWS + 1)}))
        for name in DEVICES
    ]
    intakes = [Intake(store, lambda _seconds: True) for _ in range(2)]
    acknowledged: list[list[tuple[str, int]]] = [[], []]

    def take(number: int) -> None:
        sent = messages(number)
        for first in range(0, MESSAGES, BATCH):
            done = intakes[number].take(sent[first : first + BATCH], 100.0)
            assert done is not None
            acknowledged[number] += [(name, ack.sequence) for name, ack in done.acks]

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for heard in acknowledged:  # of one device's marks, each ingest's only rise
        for name in DEVICES:
            marks = [mark for device, mark in heard if device == name]
            assert marks == sorted(marks)
            assert marks
    assert [intake.counters.retries for intake in intakes] == [0, 0]
    assert intakes[0].take(everything, 101.0) is not None
    with store.read() as session:
        distinct = func.count(func.distinct(SummaryWindow.sequence))
        counted = select(SummaryWindow.device, func.count(), distinct)
        rows = session.exec(counted.group_by(SummaryWindow.device)).all()
        marks = session.exec(select(Stream.device, Stream.contiguous, Stream.epoch)).all()
    assert sorted(rows) == [(name, ROWS, ROWS) for name in DEVICES]
    assert sorted(marks) == [(name, ROWS, EPOCH.hex()) for name in DEVICES]
    store.close()
