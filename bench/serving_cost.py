"""What recording costs an answer, and what the supervisor takes beside its models."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from bench.serving_models import Served

from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.startup import open_engine
from support.ports import free_port

CALLS = 5000
ROUNDS = 9
ALONE_SECONDS = 0.5
SETTLE_SECONDS = 75.0
RING_ROWS = 4096
PROBATION = ("--probation-seconds", "5")
KIB = 1024


def recording(model: Served) -> dict[str, Any]:
    """Microseconds of a call: the runtime alone, with checks, and recorded as well."""
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        folder = Path(name) / "b"
        folder.mkdir()
        manifest, sha256 = model.bundle(folder)
        layout = RingLayout.of(manifest, sha256)
        kept_in = Ring.create(Path(name) / "ring", layout, RING_ROWS)
        with open_engine(folder) as plain, open_engine(folder, ring=kept_in) as kept:
            given = {"x": model.element}
            assert plain.model is not None
            run, check, record = plain.model.run, plain.infer, kept.infer
            ways: dict[str, Callable[[], object]] = {
                "bare": lambda: run(given),
                "checked": lambda: check(given),
                "recorded": lambda: record(given),
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, call in ways.items():
                    taken[way].append(_microseconds(call))
    found = {way: round(float(np.median(each)), 2) for way, each in taken.items()}
    return {
        "microseconds": found,
        "recording_microseconds": round(found["recorded"] - found["checked"], 2),
        "engine_microseconds": round(found["recorded"] - found["bare"], 2),
        "calls": CALLS, "rounds": ROUNDS,
    }  # fmt: skip


def calls_a_second(model: Served) -> float:
    """Of the runtime alone, one thread and no server: what no server on one core can exceed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    given = {"x": model.element}
    taken: list[float] = []
    for _ in range(ROUNDS):
        begun, calls = time.perf_counter(), 0
        while time.perf_counter() - begun < ALONE_SECONDS:
            session.run(None, given)
            calls += 1
        taken.append(calls / (time.perf_counter() - begun))
    return round(float(np.median(taken)), 1)


def _microseconds(call: Callable[[], object]) -> float:
    gc.collect()
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begun) / CALLS * 1e6


def supervisor(model: Served) -> dict[str, Any]:
    """Memory of `muster-agent run` on a device that serves the model, some time after."""
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        folder = Path(name)
        (folder / "dense.onnx").write_bytes(model.onnx)
        np.savez(folder / "sample.npz", x=np.repeat(model.element, 4, axis=0))
        muster = Path(sys.executable).with_name("muster")
        said = os.environ | {"MUSTER_PROFILE": str(folder / "fleet" / "hub" / "operator.toml")}

        def types(*command: str) -> None:
            subprocess.run(
                [muster, *command], cwd=folder, env=said, check=True, timeout=300,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip

        types("quickstart", "fleet", "--port", str(free_port()))
        try:
            pid = _supervisor_of(folder / "fleet" / "device-1")
            idle = _memory(pid)
            types("model", "push", "dense.onnx", "--sample", "sample.npz", *PROBATION)
            types("rollout", "start", "dense", "1", "--min-soak-seconds", "5", "--watch")
            time.sleep(SETTLE_SECONDS)  # free memory goes back once a minute
            serving = _memory(pid)
        finally:
            types("quickstart", "fleet", "--stop")
    return {"without_a_model": idle, "serving": serving}


def _supervisor_of(directory: Path) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended
            if b"run" in command and str(directory).encode() in command:
                return int(entry.name)
    raise LookupError(f"no agent runs in {directory}")


def _memory(pid: int) -> dict[str, float]:
    """Resident, proportional and own memory of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    return {
        "rss_mb": round(sizes["Rss"] * KIB / 1e6, 1),
        "pss_mb": round(sizes["Pss"] * KIB / 1e6, 1),
        "anonymous_mb": round(sizes["Anonymous"] * KIB / 1e6, 1),
    }


def lines(results: dict[str, Any]) -> list[str]:
    """What the README says of both."""
    said: list[str] = []
    if (part := results.get("recording")) is not None:
        own = part["measured"]
        took = own["microseconds"]
        said.append(
            f"A call of the small network takes {took['bare']} µs in the runtime alone, "
            f"{took['checked']} with checks and {took['recorded']} recorded as well: recording "
            f"costs {own['recording_microseconds']} µs."
        )
    if (part := results.get("supervisor")) is not None:
        idle, busy = part["measured"]["without_a_model"], part["measured"]["serving"]
        said.append(
            f"The supervisor takes {idle['rss_mb']} MB of resident memory without a model and "
            f"{busy['rss_mb']} MB while one serves, of which {busy['anonymous_mb']} MB are its "
            "own; the rest are libraries."
        )
    return [part for sentence in said for part in (sentence, "")]
