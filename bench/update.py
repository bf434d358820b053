"""What an update costs those who ask the model meanwhile, and the link.

    python -m bench update [--swaps 50] [--megabytes 50] [--rate 10] [--part NAME]

Writes ``bench/results/update.json``. Figures of a part are from one go, to be
read as ratios; at a rate beyond what the machine answers they say nothing.
"""

# ruff: noqa: E402 - the tests' builders are found only after the path is set

import argparse
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

from bench import update_delta, update_models

from muster_agent.worker.events import Drained, Exited, Ready
from support.models import write_bundle
from support.ports import free_port
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
        time.sleep(1.0)
        begun = time.monotonic()
        time.sleep(STEADY_SECONDS)
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
            time.sleep(REST_SECONDS)
            ours.append(us.memory_info().rss)
            theirs.append(psutil.Process(new.pid).memory_info().rss)
            for file in directory.glob("*.ring"):
                if file.stem != new.spec.worker_id:
                    file.unlink()
        others = len(us.children()) - 2  # besides the serving worker and the client
        samples = load.end()
    during = [s for due, s, _ in samples if any(a <= due <= b for a, b in spans)]
    steady = [
        s for due, s, _ in samples
        if begun <= due and not any(a - 0.05 <= due <= b + 0.05 for a, b in spans)
    ]  # fmt: skip
    found = {"steady": milliseconds(steady), "during_swaps": milliseconds(during)}
    return found | {
        "swaps": count,
        "failed_requests": sum(not ok for _, _, ok in samples),
        "p99_ratio": round(found["during_swaps"]["p99_ms"] / found["steady"]["p99_ms"], 2),
        "ready_seconds_median": round(float(np.median(ready_seconds)), 2),
        "supervisor_rss_mib": [ours[4] >> 20, ours[-1] >> 20],
        "worker_rss_mib": [theirs[4] >> 20, theirs[-1] >> 20],
        "processes_left": others,
    }


PLAIN = """
import sys, onnxruntime, numpy, uvicorn
from fastapi import FastAPI, Request
session = onnxruntime.InferenceSession(sys.argv[1])
app = FastAPI()
@app.post("/v2/models/dense/infer")
async def infer(request: Request):
    entry = (await request.json())["inputs"][0]
    x = numpy.array(entry["data"], numpy.float32).reshape(entry["shape"])
    (y,) = session.run(None, {"x": x})
    return {"outputs": [{"name": "probabilities", "data": y.ravel().tolist()}]}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def restart(megabytes: int, count: int, rate: float) -> dict[str, Any]:
    """The peers' way: a plain uvicorn service is stopped and started on the new file."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        pair = bundles(Path(name), "onnx", megabytes)

        def serve(number: int) -> "subprocess.Popen[bytes]":
            model = pair[number % 2][0] / "model.onnx"
            return subprocess.Popen([sys.executable, "-c", PLAIN, str(model), str(port)])

        service = serve(0)
        load = Load(str(port), rate)
        time.sleep(8.0)
        times = []
        for number in range(1, count + 1):
            times.append(time.monotonic())
            service.terminate()
            service.wait()
            service = serve(number)
            time.sleep(6.0)
        samples = load.end()
        service.terminate()
        service.wait()
    gaps = []
    for begun in times:
        answers = [due + s for due, s, ok in samples if ok and due + s > begun]
        gaps.append(max(b - a for a, b in zip([begun, *answers], answers, strict=False)))
    failed = sum(not ok for due, _, ok in samples if due > times[0])
    return {
        "restarts": count,
        "failed_requests": failed,
        "gap_seconds_median": round(float(np.median(gaps)), 2),
    }


PARTS = ("swap_onnx", "swap_tflite", "restart_uvicorn", "delta")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; others are kept")
    options = parser.parse_args()
    size, rate = options.megabytes, options.rate
    parts = {
        "swap_onnx": lambda: swaps("onnx", size, options.swaps, rate),
        "swap_tflite": lambda: swaps("tflite", size, options.swaps, rate),
        "restart_uvicorn": lambda: restart(size, 3, rate),
        "delta": update_delta.measure,
    }
    found: dict[str, Any] = {}
    if options.part and RESULTS.exists():
        found = json.loads(RESULTS.read_text())
    for part in options.part or PARTS:
        machine = {
            "cpus": os.cpu_count(), "python": platform.python_version(),
            "load_before": round(os.getloadavg()[0], 1),
        }  # fmt: skip
        found[part] = parts[part]() | {"machine": machine}
        if part != "delta":
            found[part] |= {"megabytes": size, "requests_per_second": rate}
        print(part, json.dumps(found[part], indent=1), flush=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
