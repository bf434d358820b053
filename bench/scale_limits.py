"""What this machine can do at most, and what the hub's own parts take beside it: CPU-µs each.

No network: the parts are called as the hub calls them, on a database on the same disk.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its messages and tables

import msgspec
from bench.fleet import windows

from muster_hub.monitoring import drift_step, rollup_step
from muster_hub.mqtt.inbound import read
from muster_hub.mqtt.intake import Intake
from muster_hub.settings.retention import Telemetry
from muster_protocol.signals import baseline, summary_wire
from muster_protocol.wire import messages, topics
from muster_protocol.wire.manifest import File
from muster_protocol.wire.messages import Batch, Row, Stamp
from support.bulk_fleet import QuickSigner, fill
from support.hub_engine import MANIFEST, Plant
from support.hub_store import open_store

BATCH, BATCHES, ROUNDS = 500, 6, 3
DEVICES = 500
IDLE_DEVICES, IDLE_STEPS = 10_000, 20


def measure() -> dict[str, Any]:
    """Medians of a few rounds."""
    with tempfile.TemporaryDirectory(prefix="muster-limits-") as name:
        sent = [summary_message(number % DEVICES) for number in range(BATCH)]
        payloads = [payload for _, payload in sent]
        found = {
            "decode, msgspec alone": _each(
                lambda: [messages.decode(payload, Batch) for payload in payloads], BATCH
            ),
            "decode, hub": _each(lambda: [read(topic, data, 1e9) for topic, data in sent], BATCH),
            "durable insert, SQLite alone": _inserted(Path(name), payloads),
            "ingest, hub (decode and commit)": _ingested(Path(name)),
            **_engine(Path(name)),
        }
    return {what: round(spent, 1) for what, spent in found.items()}


def _stamp(seconds: float) -> Stamp:
    return Stamp(b"boot", seconds, 0.0, "unknown")


def summary_message(
    device: int,
    sequence: int = 1,
    manifest: str = "ab" * 32,
    model: str = windows.MODEL,
    version: str = "1",
) -> tuple[str, bytes]:
    """A message with one window of eight features, as that device sends it: topic and payload.
    No window is like the one before it: a signal whose extremes repeat is a sensor at fault."""
    seen = replace(
        WINDOWS[(device + sequence) % len(WINDOWS)],
        model=model, version=version, manifest=manifest,
        opened=_stamp(0.0), closed=_stamp(300.0),
    )  # fmt: skip
    rows = [Row(sequence, summary_wire.encode(seen))]
    payload = messages.encode(Batch(1, bytes(12), _stamp(301.0), rows))
    return topics.up(f"dev-{device:05}", "telemetry"), payload


WINDOWS = windows.windows(windows.FEATURES["1"])


def _each(act: Callable[[], object], times: int) -> float:
    """CPU-µs of one of so many, the middle of a few rounds."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        act()
        spent.append(1e6 * (time.process_time() - begun) / times)
    return statistics.median(spent)


def _inserted(directory: Path, payloads: list[bytes]) -> float:
    """Rows of the same bytes into one table with one unique index, a durable commit a batch."""
    base = sqlite3.connect(directory / "raw.db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, device TEXT, sequence INTEGER, start REAL,"
        " payload BLOB, UNIQUE (device, sequence))"
    )
    numbers = iter(range(1, 1_000))

    def insert() -> None:
        for _ in range(BATCHES):
            sequence = next(numbers)
            base.execute("BEGIN IMMEDIATE")
            base.executemany(
                "INSERT INTO t (device, sequence, start, payload) VALUES (?, ?, ?, ?)",
                [
                    (f"dev-{number:05}", sequence, 0.0, payload)
                    for number, payload in enumerate(payloads)
                ],
            )
            base.execute("COMMIT")

    spent = _each(insert, BATCH * BATCHES)
    base.close()
    return spent


def _ingested(directory: Path) -> float:
    store = open_store(directory, *(f"dev-{number:05}" for number in range(DEVICES)))
    intake = Intake(store, lambda _seconds: True)
    numbers = iter(range(1, 1_000))
    ready = iter(
        [
            [summary_message(number % DEVICES, sequence) for number in range(BATCH)]
            for sequence in (next(numbers) for _ in range(BATCHES * ROUNDS))
        ]
    )

    def take() -> None:
        for _ in range(BATCHES):
            assert intake.take(next(ready), time.time()) is not None

    spent = _each(take, BATCH * BATCHES)
    assert intake.counters.rows == BATCH * BATCHES * ROUNDS
    store.close()
    return spent


def _engine(directory: Path) -> dict[str, float]:
    """What the engine does of each window, and a step of it in which nothing changed."""
    home = directory / "engine"
    home.mkdir()
    plant = Plant(home, signing=QuickSigner(), telemetry=Telemetry())
    known = baseline.encode(windows.fitted(windows.FEATURES["1"]))
    file = File("baseline.bin", len(known), plant.blobs.put(known))
    fill(plant, IDLE_DEVICES, plant.publish("1"))
    manifest = plant.publish("2", files=(*MANIFEST.files, file), baseline="baseline.bin")
    intake = Intake(plant.store, lambda _seconds: True)
    times = range(2, 2 + BATCHES * ROUNDS)  # each device has one from before
    for sequence in times:
        sent = [
            summary_message(number, sequence, manifest, "digits", "2") for number in range(DEVICES)
        ]
        assert intake.take(sent, plant.now) is not None
    steps = [(f"{part}, each window", step) for part, step in _STEPS.items()]
    found = {}
    for name, step in steps:
        begun, taken = time.process_time(), 0
        while taken < len(times) * DEVICES:
            with plant.store.write() as session:
                taken += step(session, plant.engine.bundles, plant.now + 7_200.0)
        found[name] = 1e6 * (time.process_time() - begun) / taken
    for _ in range(IDLE_STEPS):  # what the windows left to do
        plant.now += 1.0
        plant.engine.step()

    def idle() -> None:
        for _ in range(IDLE_STEPS):
            plant.now += 1.0
            plant.engine.step()

    found[f"idle step, {IDLE_DEVICES:,} devices"] = _each(idle, IDLE_STEPS)
    plant.close()
    return found


_STEPS = {"drift": drift_step.step, "roll-up": rollup_step.step}

if __name__ == "__main__":
    print(msgspec.json.encode(measure()).decode())
