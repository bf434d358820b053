"""How fast feeds are, and how much they take: ``python -m bench feeds [--seconds N]``.

One core each: samples through windows to rows; Modbus blocks read through to samples, beside the
bare client of pymodbus against the same server in the same process; OPC UA values beside the bare
client of asyncua, and a thousand tags once a second; a value published over a real
Mosquitto to the answer at another client, through a real feed process and a real worker; the memory
of that process. Then, with a counterpart for each kind of sink at once, how long after a worker is
killed or hangs, a source is lost, a value becomes stale or a version is swapped the signed fallback
is at each, against the deadline that the feed declares. Prints JSON; ``--keep`` writes
results/feeds.json.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # its plant, workers and models

import msgspec  # noqa: E402 the path comes first
import psutil  # noqa: E402 the path comes first
from bench import feeds_opcua  # noqa: E402 the path comes first
from msgspec import structs  # noqa: E402 the path comes first
from pymodbus.client import AsyncModbusTcpClient  # noqa: E402 the path comes first

from muster_agent.base.feed_settings import ModbusSource  # noqa: E402 the path comes first
from muster_agent.feeds.assembly import Assembler  # noqa: E402 the path comes first
from muster_agent.feeds.ending import end  # noqa: E402 the path comes first
from muster_agent.feeds.modbus.tags import ModbusTags  # noqa: E402 the path comes first
from muster_agent.feeds.samples import Sample  # noqa: E402 the path comes first
from muster_protocol.wire.feeding import InputFeature, InputWindow  # noqa: E402 the path comes first
from support.fail_safe import DEADLINE_SECONDS, FAULTS, Plant  # noqa: E402 the path comes first
from support.fed import FedSlot, PlantBroker, PlantClient  # noqa: E402 the path comes first
from support.plant_servers import Heard, Plc  # noqa: E402 the path comes first
from wire_samples import MANIFEST_2  # noqa: E402 the path comes first

RESULTS = Path(__file__).parent / "results" / "feeds.json"
SIGNALS = 1000
TICK_SECONDS = 0.01
ANSWERS_MIN, FRESH_EVERY = 10, 20
FAULT_ROUNDS = 5
FEED = """
[feeds.press]
slot = "slot"
[feeds.press.sources.uns]
kind = "mqtt"
host = "127.0.0.1"
port = {port}
[feeds.press.sources.uns.tags]
flow = {{ topic = "flow", unit = "m3/h" }}
temperature = {{ topic = "t", unit = "°C" }}
[feeds.press.sinks.out]
kind = "mqtt"
host = "127.0.0.1"
port = {port}
topic = "answers"
"""


def core(seconds: float) -> dict[str, float]:
    """Samples of 1,000 signals, each in a window of ten seconds, and a row of all each round."""
    features = tuple(InputFeature(f"s{n}", statistic="mean") for n in range(SIGNALS))
    window = InputWindow(seconds=10.0)
    made = Assembler(structs.replace(MANIFEST_2, features=features, window=window))
    began, rounds = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        rounds += 1
        for number in range(SIGNALS):
            made.take(Sample(f"s{number}", 1.0, float(rounds), float(rounds)))
        made.row(float(rounds))
    return {"samples_per_second": rounds * SIGNALS / spent, "rows_per_second": rounds / spent}


async def modbus(seconds: float) -> dict[str, float]:
    """Reads of one block of ten registers, as fast as they go."""
    async with Plc() as plc:
        tags = {f"s{n}": {"register": n, "type": "int16"} for n in range(10)}
        given = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "every_seconds": 1e-6}
        heard = Heard()
        settings = msgspec.convert(given | {"tags": tags}, ModbusSource)
        task = asyncio.create_task(ModbusTags(settings, heard.inlet.of(settings.tags)).run())
        await asyncio.sleep(0.5)  # It connects.
        heard.inlet.drain()
        ends, samples = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            await asyncio.sleep(0.05)  # Samples gather.
            samples += len(heard.inlet.drain())
        await end([task])
        client = AsyncModbusTcpClient("127.0.0.1", port=plc.port)
        await client.connect()
        ends, reads = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            await client.read_holding_registers(0, count=10, device_id=1)
            reads += 1
        client.close()
    return {"blocks_per_second": samples / 10 / seconds, "bare_client": reads / seconds}


def whole(seconds: float, folder: Path) -> dict[str, float]:
    """Milliseconds from a published value to the answer that has it, and the process's memory."""
    delays = []
    window = InputWindow(every_seconds=TICK_SECONDS)
    with (
        PlantBroker(folder) as broker,
        PlantClient(broker.port, "answers") as plant,
        FedSlot(folder, FEED.format(port=broker.port), window=window) as fed,
    ):
        fed.begin_worker()
        process = fed.begin_feed()
        plant.publish("t", "20", retain=True)
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends or number < ANSWERS_MIN:
            number += 1
            good = number % 2 == 1
            if number % FRESH_EVERY == 0:
                plant.publish("t", "20", retain=True)  # or it would be stale, as its feature says
            began = time.monotonic()
            plant.publish("flow", "5" if good else "500", retain=True)
            plant.answer(lambda answer, good=good: (answer["basis"] == "model") == good)
            delays.append((time.monotonic() - began) * 1000)
        memory = psutil.Process(process.pid).memory_info().rss
    ordered = sorted(delays[1:])
    return {
        "answers": len(ordered),
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "tick_ms": TICK_SECONDS * 1000,
        "rss_mib": memory / 2**20,
    }


def fail_safe(folder: Path) -> dict[str, Any]:
    """Longest milliseconds from each fault to the fallback at each kind of sink."""
    with Plant(folder) as plant:
        rounds = [(fault, plant.suffer(fault)) for _ in range(FAULT_ROUNDS) for fault in FAULTS]
    longest: dict[str, dict[str, float]] = {fault: {} for fault in FAULTS}
    for fault, seconds in rounds:
        for kind, each in seconds.items():
            longest[fault][kind] = max(longest[fault].get(kind, 0.0), each * 1000)
    worst = max(each for found in longest.values() for each in found.values())
    return {
        "deadline_ms": DEADLINE_SECONDS * 1000,
        "rounds": FAULT_ROUNDS,
        "longest_ms": longest,
        "within_the_deadline": worst <= DEADLINE_SECONDS * 1000,
    }


def _below(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--steady",
        type=float,
        default=60.0,
        help="seconds of 1,000 OPC UA tags, each once a second",
    )
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "load": os.getloadavg()[0],
            "core": core(options.seconds),
            "modbus": asyncio.run(modbus(options.seconds)),
            "opcua": feeds_opcua.measure(options.seconds, options.steady),
            "whole": whole(options.seconds, _below(folder, "whole")),
            "fail_safe": fail_safe(_below(folder, "fail_safe")),
        }
    text = json.dumps(found, indent=2)
    print(text)
    if options.keep:
        RESULTS.write_text(text + "\n", encoding="utf-8")
    return 0
