"""What an update costs those who ask the model meanwhile, and the link.

    python -m bench update [--swaps 50] [--megabytes 50] [--rate 20] [--part NAME]

Writes ``bench/results/update.json``, part by part, and the tables in ``bench/README.md``. Figures
of a part are from one go, to be read as ratios; at a rate beyond what the machine answers they say
nothing.
"""

# ruff: noqa: E402 - the tests' builders are found only after the path is set

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # its models, workers and clients

from bench import (
    update_delta,
    update_fleet,
    update_http,
    update_large,
    update_models,
    update_report,
    update_restart,
)

from muster_agent.isolation.cage import Rung
from muster_agent.worker.events import Drained, Exited, Ready
from support.models import write_bundle
from support.workers import Workers

RESULTS = ROOT / "bench" / "results" / "update.json"
STEADY_SECONDS = 10.0
REST_SECONDS = 0.3


class Load:
    """A client process at a steady rate."""

    def __init__(self, address: str, rate: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "bench" / "update_client.py", address, str(rate)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self) -> list[tuple[float, float, bool]]:
        output, _ = self._process.communicate("", timeout=60)
        return [(due, seconds, ok) for due, seconds, ok in json.loads(output)]


def milliseconds(samples: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(samples, [50, 99]) * 1e3
    return {
        "requests": len(samples),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(max(samples) * 1e3, 2),
    }


def bundles(directory: Path, runtime: Any, megabytes: int) -> list[Any]:
    """Two versions of a model of that size."""
    made = []
    for version in ("1", "2"):
        stack = update_models.layers(megabytes << 20, seed=int(version))
        data = update_models.as_onnx(stack) if runtime == "onnx" else update_models.as_tflite(stack)
        cases = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        golden = {"input:x": cases, "output:probabilities": update_models.run(stack, cases)}
        at = directory / f"{runtime}-{version}"
        signed = write_bundle(
            at, version=version, runtimes=(runtime,), files={runtime: data}, golden=golden,
            memory_bytes=(megabytes << 20) * 6 + (256 << 20),
        )  # fmt: skip
        made.append((at, *signed))
    return made


def swaps(runtime: Any, megabytes: int, count: int, rate: float) -> dict[str, Any]:
    """Swap back and forth under a steady load."""
    us = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="mu") as name, Workers(Path(name)) as slot:
        directory = Path(name)
        pair = bundles(directory, runtime, megabytes)
        old = slot.start(*pair[0], runtime)
        slot.wait(old, Ready)
        old.accept()
        load = Load(str(slot.sockets.path), rate)
        time.sleep(1.0)  # the load begins
        begun = time.monotonic()
        time.sleep(STEADY_SECONDS)  # the load runs steadily before the first swap
        spans, ready_seconds, ours, theirs = [], [], [], []
        for swap in range(count):
            start = time.monotonic()
            new = slot.start(*pair[(swap + 1) % 2], runtime)
            slot.wait(new, Ready)
            ready_seconds.append(time.monotonic() - start)
            new.accept()
            old.pause()
            slot.wait(old, Drained)
            old.stop(10.0)
            slot.wait(old, Exited)
            spans.append((start, time.monotonic()))
            old = new
            time.sleep(REST_SECONDS)  # an idle second between swaps shows what memory stays
            ours.append(us.memory_info().rss)
            theirs.append(psutil.Process(new.pid).memory_info().rss)
            for file in directory.glob("*.ring"):
                if file.stem != new.spec.worker_id:
                    file.unlink()
        others = len(us.children()) - 2  # besides the serving worker and the client
        samples = load.end()
    # From one request's answer to the next there is at least the client's own interval.
    gaps = [update_restart.gap(samples, a, b + REST_SECONDS) for a, b in spans]
    during = [s for due, s, _ in samples if any(a <= due <= b for a, b in spans)]
    steady = [
        s for due, s, _ in samples
        if begun <= due and not any(a - 0.05 <= due <= b + 0.05 for a, b in spans)
    ]  # fmt: skip
    found = {"steady": milliseconds(steady), "during_swaps": milliseconds(during)}
    return found | {
        "swaps": count,
        "failed_requests": sum(not ok for _, _, ok in samples),
        "gap_ms_median": round(float(np.median(gaps)) * 1e3, 1),
        "gap_ms_max": round(max(gaps) * 1e3, 1),
        "p99_ratio": round(found["during_swaps"]["p99_ms"] / found["steady"]["p99_ms"], 2),
        "ready_seconds_median": round(float(np.median(ready_seconds)), 2),
        "supervisor_rss_mib": [ours[4] >> 20, ours[-1] >> 20],
        "worker_rss_mib": [theirs[4] >> 20, theirs[-1] >> 20],
        "processes_left": others,
    }


def restarts(name: str, megabytes: int, rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mu") as directory:
        made = bundles(Path(directory), "onnx", megabytes)
        models = [at / "model.onnx" for at, _, _ in made]
        return update_restart.restart(name, models, Load, rate)


def isolation(runtime: Any, megabytes: int, count: int) -> dict[str, Any]:
    """Seconds from a candidate's process to ready, isolated and not, by turns."""
    taken: dict[Rung, list[float]] = {Rung.FULL: [], Rung.NONE: []}
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        made = bundles(Path(name), runtime, megabytes)[0]
        for number in range(count + 1):
            for rung, seconds in taken.items():
                with tempfile.TemporaryDirectory(prefix="mu") as run, Workers(Path(run)) as slot:
                    begun = time.monotonic()
                    slot.wait(slot.start(*made, runtime, rung=rung, first=True), Ready)
                    if number:  # The first of each warms the disk's cache.
                        seconds.append(time.monotonic() - begun)
    return {
        f"{rung}_ready_seconds_median": round(float(np.median(seconds)), 4)
        for rung, seconds in taken.items()
    } | {"starts": count, "megabytes": megabytes}


PARTS = (
    "swap_onnx", "swap_tflite", "restart_uvicorn", "restart_mlserver", "fetch", "fetch_http",
    "fetch_large", "fleet", "delta", "isolation_onnx", "isolation_tflite",
    "swap_onnx_small", "swap_tflite_small", "swap_onnx_large", "swap_tflite_large",
)  # fmt: skip
SERVED = PARTS[:4] + PARTS[11:]
ISOLATION_STARTS = 15
SMALL_MEGABYTES, LARGE_MEGABYTES = 1, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--large-megabytes", type=int, default=update_large.MEGABYTES)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; others are kept")
    options = parser.parse_args()
    size, rate = options.megabytes, options.rate
    parts = {
        "swap_onnx": lambda: swaps("onnx", size, options.swaps, rate),
        "swap_tflite": lambda: swaps("tflite", size, options.swaps, rate),
        "restart_uvicorn": lambda: restarts("plain_uvicorn", size, rate),
        "restart_mlserver": lambda: restarts("mlserver_onnx", size, rate),
        "fetch": lambda: update_fleet.fetch(size),
        "fetch_http": lambda: update_http.measure(size, update_fleet.started),
        "fetch_large": lambda: update_large.measure(options.large_megabytes, update_fleet.started),
        "fleet": update_fleet.fleet,
        "delta": update_delta.measure,
        "isolation_onnx": lambda: isolation("onnx", size, ISOLATION_STARTS),
        "isolation_tflite": lambda: isolation("tflite", size, ISOLATION_STARTS),
    }
    sizes = dict.fromkeys(PARTS, size)
    for runtime in ("onnx", "tflite"):
        for word, megabytes in (("small", SMALL_MEGABYTES), ("large", LARGE_MEGABYTES)):
            part = f"swap_{runtime}_{word}"
            sizes[part] = megabytes
            parts[part] = functools.partial(swaps, runtime, megabytes, options.swaps, rate)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.part or PARTS:
        machine = {
            "cpus": os.cpu_count(), "python": platform.python_version(),
            "load_before": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        found[part] = parts[part]() | {"machine": machine}
        if part in SERVED:
            found[part] |= {"megabytes": sizes[part], "requests_per_second": rate}
        print(part, json.dumps(found[part], indent=1), flush=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        update_report.write(found)


if __name__ == "__main__":
    main()
