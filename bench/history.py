"""A month of a thousand devices, read back from hours and days: seconds an answer.

    .venv/bin/python -m bench.history [--devices 1000] [--days 30]

Telemetry of 50 features at five-minute windows lies in the hub's own tables, on SQLite: every
device's days, the fleet's hours and days, as the engine leaves them, and one day of windows of some
devices, which the engine's step rolls up while it is timed. Days of devices are copies of a few
real ones. Each query is asked several times in this process, without HTTP; the slowest counts.
Writes ``results/history.json`` and its table in ``README.md``; fails when a query takes a second.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bench.signals_speed import FEATURES, window
from sqlalchemy import insert

from muster_hub.monitoring import history, rollup_step
from muster_hub.registry.published import Bundles
from muster_hub.settings.database import sqlite_url
from muster_hub.storage import migrate, models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.models import Rollup, SummaryWindow
from muster_hub.storage.store import Store
from muster_hub.storage.tables import target
from muster_protocol.signals import baseline, binning, summary, summary_wire
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import manifest as manifest_wire
from muster_protocol.wire.manifest import Build, File, Golden, Manifest
from muster_protocol.wire.tensors import Tensor

RESULTS = Path(__file__).parent / "results" / "history.json"
README = Path(__file__).parent / "README.md"
DAY, HOUR = 86_400.0, 3600.0
BEGIN = 20_000 * DAY
SECONDS_MAX = 1.0
TRIES = 5
KINDS = 16
ROLLED_DEVICES = 10


class Hub:
    """A hub's database and blobs with one version of a model, watched in 50 features."""

    def __init__(self, directory: Path, devices: int) -> None:
        self.store = Store(sqlite_url(directory / "hub.db"))
        migrate.upgrade(self.store)
        self.blobs = Blobs(directory / "blobs")
        self.names = [f"d{number:05}" for number in range(devices)]
        made, _ = window(np.random.default_rng(1))
        assert made.features is not None
        self.baseline = made.features.baseline
        data = baseline.encode(self.baseline)
        file = File("baseline.bin", len(data), self.blobs.put(data))
        model = File("model.onnx", 1, "00" * 32)
        written = Manifest(
            model="pump", version="1", created=0, inputs=(Tensor("x", "FP32", (-1, FEATURES)),),
            outputs=(Tensor("y", "FP32", (-1, 1)),), builds=(Build("onnx", "model.onnx", 1 << 24),),
            files=(model, File("golden.npz", 1, "11" * 32), file), golden=Golden("golden.npz"),
            baseline=file.path,
        )  # fmt: skip
        self.manifest = self.blobs.put(manifest_wire.encode(written))
        self.bundles = Bundles(self.store, self.blobs)
        with self.store.write() as session:
            session.add_all(
                models.Device(id=name, created=0.0, labels={"site": f"s{number % 10}"})
                for number, name in enumerate(self.names)
            )
        seeds = np.random.default_rng(2).integers(0, 2**31, KINDS)
        self.windows = [self._own(seed) for seed in seeds]

    def _own(self, seed: int) -> Summary:
        made, tensors = window(np.random.default_rng(seed))
        counted = binning.count(self.baseline, tensors)
        return replace(made, model="pump", version="1", manifest=self.manifest, features=counted)

    def rollup(
        self, level: models.RollupLevel, device: str, start: float, summary: Summary
    ) -> Rollup:
        return Rollup(
            level=level, device=device, manifest=self.manifest, start=start, model="pump",
            version="1", windows=summary.windows, seconds=300.0 * summary.windows,
            n=summary.counts.inferences, payload=summary_wire.encode(summary, exact=True),
        )  # fmt: skip

    def fill(self, days: int) -> None:
        """``days`` of every device, and the hours and days of the fleet."""
        hour = [reduce(summary.merge, (self.windows * 2)[at : at + 12]) for at in range(KINDS)]
        day = [reduce(summary.merge, (hour * 3)[at : at + 24]) for at in range(KINDS)]
        ready = [self.rollup("day", "", 0.0, entry) for entry in day]
        for number in range(days):
            start = BEGIN + number * DAY
            rows = []
            for place, name in enumerate(self.names):
                fields = ready[(place + number) % KINDS].model_dump()
                rows.append(fields | {"device": name, "start": start})
            with self.store.write() as session:
                session.connection().execute(insert(target(Rollup)), rows)
                fleet = reduce(summary.merge, [day[(p + number) % KINDS] for p in range(KINDS)])
                session.add(self.rollup("day", "", start, fleet))
                for past in range(24):
                    item = reduce(summary.merge, hour)
                    session.add(self.rollup("hour", "", start + past * HOUR, item))
                    device = hour[past % KINDS]
                    session.add(self.rollup("hour", self.names[0], start + past * HOUR, device))

    def roll(self, start: float) -> float:
        """Windows a second that the engine's step merges, with their commits."""
        count = int(DAY / 300)
        payloads = [summary_wire.encode(window) for window in self.windows]
        with self.store.write() as session:
            session.add_all(
                SummaryWindow(
                    device=name, epoch="00", sequence=number + 1, model="pump", version="1",
                    manifest=self.manifest, start=start + 300.0 * number, seconds=300.0, n=3000,
                    received=start, payload=payloads[number % KINDS], folded=True,
                )
                for name in self.names[:ROLLED_DEVICES]
                for number in range(count)
            )  # fmt: skip
        begun, rolled, some = time.perf_counter(), 0, 1
        while some:
            with self.store.write() as session:
                some = rollup_step.step(session, self.bundles, start + 2 * DAY)
            rolled += some
        assert rolled == ROLLED_DEVICES * count
        return rolled / (time.perf_counter() - begun)

    def ask(self, days: int, **asked: Any) -> Callable[[], list[dict[str, Any]]]:
        settled = {"model": "pump", "level": "day", "since": BEGIN, "until": BEGIN + days * DAY}

        def answer() -> list[dict[str, Any]]:
            with self.store.read() as session:
                return history.read(session, self.blobs.read, **settled | asked)

        return answer


def slowest(ask: Callable[[], list[dict[str, Any]]], expected: int) -> float:
    took = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        answer = ask()
        msgspec.json.encode(answer)
        took.append(time.perf_counter() - begun)
        assert len(answer) == expected, f"{len(answer)} points instead of {expected}"
    return max(took)


def table(results: dict[str, Any]) -> str:
    rows = [f"| {name} | {took:.2f} s |" for name, took in results["slowest_seconds"].items()]
    heading = f"| {results['days']} days of {results['devices']:,} devices | slowest of {TRIES} |"
    summary_line = (
        f"{results['features']} features, a database of {results['database_bytes'] / 1e6:.0f} MB; "
        f"the engine merges {results['windows_rolled_up_per_second']:,.0f} windows a second into "
        f"hours and days. ({results['cpus']} cores, load {results['load']:.1f})"
    )
    return "\n".join([heading, "|---|---|", *rows, "", summary_line])


def publish(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    page = README.read_text()
    before, rest = page.split("<!-- history: begin -->\n")
    _, after = rest.split("<!-- history: end -->")
    README.write_text(
        f"{before}<!-- history: begin -->\n{table(results)}\n<!-- history: end -->{after}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    days = options.days
    with tempfile.TemporaryDirectory() as directory:
        hub = Hub(Path(directory), options.devices)
        hub.fill(days)
        rolled = hub.roll(BEGIN + (days + 5) * DAY)
        seconds = {
            "fleet, days, all features": slowest(hub.ask(days), days),
            "fleet, hours, all features": slowest(hub.ask(days, level="hour"), days * 24),
            "one device, days, all features": slowest(hub.ask(days, device=hub.names[0]), days),
            "one device, hours, all features": slowest(
                hub.ask(days, level="hour", device=hub.names[0]), days * 24
            ),
            "all devices by selector, days": slowest(hub.ask(days, selector="site"), days),
            "a tenth by selector, days": slowest(hub.ask(days, selector="site=s3"), days),
        }
        size = sum(path.stat().st_size for path in Path(directory).glob("hub.db*"))
        hub.store.close()
    results = {
        "devices": options.devices, "days": days, "features": FEATURES,
        "cpus": os.cpu_count(), "load": os.getloadavg()[0], "database_bytes": size,
        "windows_rolled_up_per_second": rolled, "slowest_seconds": seconds,
    }  # fmt: skip
    if (options.devices, options.days) == (1000, 30):
        publish(results)
    print(json.dumps(results, indent=1))
    late = [name for name, took in seconds.items() if took >= SECONDS_MAX]
    for name in late:
        print(f"{name}: {seconds[name]:.2f} s, wanted below {SECONDS_MAX:g}", file=sys.stderr)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
