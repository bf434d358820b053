"""Summaries a second into PostgreSQL: the hub's own intake in two processes, and the raw limit.

A real server with durable commits on the same disk and the same processors. Each process prepares
messages of its half of the devices, waits for the word, and takes them batch after batch. The raw
limit is the same bytes, by as many processes and in as many commits, into a table with one unique
index and nothing else: no decoding, no marks, no devices. ``python -m bench.scale_ingest``.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its server and tables

import psycopg
from bench.scale_limits import summary_message

from muster_hub.mqtt.intake import Intake
from muster_hub.storage.models import Device
from muster_hub.storage.store import Store
from support import postgres

PROCESSES, DEVICES, BATCH, BATCHES, ROUNDS = 2, 1_000, 500, 16, 3
"""Devices, batches and messages a batch are those of each process."""
DURABLE = "-c shared_buffers=256MB -c max_connections=40 -c max_wal_size=4GB"
TABLE = (
    "CREATE TABLE raw (id BIGSERIAL PRIMARY KEY, device TEXT, sequence INTEGER, start FLOAT,"
    " payload BYTEA, UNIQUE (device, sequence))"
)
COPY = "COPY raw (device, sequence, start, payload) FROM STDIN"
INSERT = (
    "INSERT INTO raw (device, sequence, start, payload) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)
Messages = list[list[tuple[str, bytes]]]


def measure() -> dict[str, Any]:
    """Summaries a second, medians of a few rounds on fresh databases."""
    with postgres.running(DURABLE) as server:
        rates: dict[str, list[float]] = {name: [] for name in ACTS}
        for _ in range(ROUNDS):
            for name in ACTS:  # in turn, so that other work on the machine meets all alike
                rates[name].append(_together(server.fresh(), name))
    found: dict[str, Any] = {name: round(statistics.median(each)) for name, each in rates.items()}
    found["of the raw insert"] = round(found["hub"] / found["raw insert"], 2)
    return found | {"processes": PROCESSES, "summaries": PROCESSES * BATCHES * BATCH}


def _together(url: str, name: str) -> float:
    """All processes at once, from the word until the last is done."""
    if name == "hub":
        _fill(url)
    else:
        with psycopg.connect(url) as connection:
            connection.execute(TABLE)
    parts = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.scale_ingest", url, name, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[1],
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for part in parts:
        assert part.stdout is not None
        assert part.stdout.readline() == "ready\n"
    begun = time.monotonic()
    for part in parts:
        assert part.stdin is not None
        part.stdin.write("go\n")
        part.stdin.flush()
    for part in parts:
        part.communicate(timeout=300)
        assert part.returncode == 0
    return PROCESSES * BATCHES * BATCH / (time.monotonic() - begun)


def _fill(url: str) -> None:
    store = Store(url)
    with store.write() as session:
        session.add_all(
            Device(id=f"dev-{number:05}", created=0.0) for number in range(PROCESSES * DEVICES)
        )
    store.close()


def _messages(part: int) -> Messages:
    """The batches of one process: each device in turn, its windows one after the other."""
    numbers = range(BATCHES * BATCH)
    each = [
        summary_message(part * DEVICES + number % DEVICES, 1 + number // DEVICES)
        for number in numbers
    ]
    return [each[first : first + BATCH] for first in range(0, len(each), BATCH)]


def _hub(url: str, part: int) -> None:
    store, batches = Store(url), _messages(part)
    intake = Intake(store, lambda _seconds: True)
    _wait()
    for batch in batches:
        assert intake.take(batch, time.time()) is not None
    assert intake.counters.rows == BATCHES * BATCH
    store.close()


def _raw(url: str, part: int, write: Callable[[Any, list[Any]], None]) -> None:
    numbers = iter(range(BATCHES * BATCH))
    rows = [
        [(topic, next(numbers), 0.0, payload) for topic, payload in batch]
        for batch in _messages(part)
    ]
    with psycopg.connect(url, autocommit=True) as connection:
        _wait()
        for batch in rows:
            with connection.transaction(), connection.cursor() as cursor:
                write(cursor, batch)


def _inserted(cursor: Any, rows: list[Any]) -> None:
    cursor.executemany(INSERT, rows)


def _copied(cursor: Any, rows: list[Any]) -> None:
    with cursor.copy(COPY) as copy:
        for row in rows:
            copy.write_row(row)


ACTS: dict[str, Callable[[str, int], None]] = {
    "hub": _hub,
    "raw insert": lambda url, part: _raw(url, part, _inserted),
    "raw copy": lambda url, part: _raw(url, part, _copied),
}


def _wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ACTS[sys.argv[2]](sys.argv[1], int(sys.argv[3]))
    else:
        print(json.dumps(measure(), indent=2))
