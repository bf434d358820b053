"""What isolating a model's process costs those who ask it, and how its peers do.

    python -m bench serving [--seconds 3] [--rounds 3] [--starts 10] [--part NAME]

Writes ``bench/results/serving.json``, part by part, and the tables in ``bench/README.md``. Every
server runs the same model file in ONNX Runtime with one thread and is asked over loopback TCP by
the same closed-loop client (MLServer in binary by gRPC, which alone it reads binary by); isolated,
not isolated and peers take turns.
"""

# ruff: noqa: E402 - the tests' builders are found only after the path is set

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # its models, workers and clients

from bench import serving_cost, serving_models, serving_report, signals_peers
from bench.serving_models import Served

from muster_agent.isolation.cage import Rung, available
from muster_agent.worker import oip
from muster_agent.worker.events import Ready
from support.ports import free_port
from support.workers import Workers

RESULTS = ROOT / "bench" / "results" / "serving.json"
PEERS = {"mlserver": "mlserver_onnx.py", "uvicorn": "plain_uvicorn.py"}
MUSTER = {"isolated": Rung.FULL, "not_isolated": Rung.NONE}
FORMATS = ("json", "binary")
CLIENTS = (1, 4, 16)
START_SECONDS_MAX = 90.0
WARM_SECONDS = 0.5


def question(model: Served, *, binary: bool) -> bytes:
    """A whole request for one batch element."""
    body, header = oip.encode_request({"x": model.element}, binary=binary, binary_outputs=binary)
    lines = [
        "POST /v2/models/dense/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}",
        "Content-Type: application/json",
    ]  # fmt: skip
    if header is not None:
        lines[3] = f"Content-Type: application/octet-stream\r\n{_LENGTH}: {header}"
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


_LENGTH = "Inference-Header-Content-Length"


@contextmanager
def muster(model: Served, rung: Rung) -> Iterator[str]:
    """The loopback port of a worker that serves the model."""
    in_memory = "/dev/shm" if os.path.ismount("/dev/shm") else None  # as a device's run_dir is
    with (
        tempfile.TemporaryDirectory(prefix="mu", dir=in_memory) as name,
        Workers(Path(name), tcp=True) as slot,
    ):
        signed = model.bundle(Path(name) / "b")
        worker = slot.start(Path(name) / "b", *signed, rung=rung)
        assert slot.wait(worker, Ready).facts.isolation == available(rung)
        worker.accept()
        yield str(slot.sockets.tcp_port)


@contextmanager
def peer(model: Served, name: str) -> Iterator[str]:
    """The port of a peer that serves the model's file."""
    python = sys.executable if name == "uvicorn" else signals_peers.interpreter("mlserver")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mu") as directory:
        file = Path(directory) / "model.onnx"
        file.write_bytes(model.onnx)
        service = subprocess.Popen(
            [python, ROOT / "bench" / "peers" / PEERS[name], str(file), str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_answering(port, question(model, binary=False), service)
            yield str(port)
        finally:
            service.kill()
            service.wait()


def wait_answering(port: int, asked: bytes, service: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and service.poll() is None:
        try:
            if ask(str(port), asked, clients=1, seconds=0.1)["wrong"] == 0:
                return
        except (subprocess.CalledProcessError, json.JSONDecodeError):
            time.sleep(0.2)  # the service is starting
    raise TimeoutError(f"the service on port {port} did not start")


def ask(address: str, asked: bytes, *, clients: int, seconds: float) -> dict[str, float]:
    client: tuple[Any, ...] = (sys.executable, ROOT / "bench" / "serving_client.py")
    return _asked(client, address, asked, clients, seconds)


def ask_mlserver(address: str, model: Served, *, clients: int, seconds: float) -> dict[str, float]:
    """In binary, which it speaks by gRPC alone, by a client made of its own messages."""
    array = io.BytesIO()
    np.save(array, model.element)
    client = (signals_peers.interpreter("mlserver"), ROOT / "bench" / "peers" / "mlserver_asks.py")
    return _asked(client, str(int(address) + 1), array.getvalue(), clients, seconds)


def _asked(
    client: tuple[Any, ...], address: str, asked: bytes, clients: int, seconds: float
) -> dict[str, float]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(asked)
        file.flush()
        done = subprocess.run(
            [*client, address, str(clients), str(seconds), file.name],
            capture_output=True, text=True, check=True, timeout=seconds + 60,
        )  # fmt: skip
    return dict(json.loads(done.stdout))


def ways() -> list[tuple[str, str]]:
    """(Server, format), each of both."""
    return [(server, form) for form in FORMATS for server in (*MUSTER, *PEERS)]


def measure(model: Served, rounds: int, seconds: float) -> dict[str, Any]:
    """Of each server, format and number of clients, the round in the middle."""
    samples: dict[str, list[dict[str, float]]] = {}
    for number in range(rounds):
        turns = ways()
        for server, form in turns[number % len(turns) :] + turns[: number % len(turns)]:
            serve = muster(model, MUSTER[server]) if server in MUSTER else peer(model, server)
            with serve as address:
                if (server, form) == ("mlserver", "binary"):
                    put = partial(ask_mlserver, address, model)
                else:
                    put = partial(ask, address, question(model, binary=form == "binary"))
                put(clients=1, seconds=WARM_SECONDS)
                for clients in CLIENTS:
                    got = put(clients=clients, seconds=seconds)
                    if got["wrong"]:
                        raise AssertionError(f"{server}, {form}: {got['wrong']} wrong answers")
                    samples.setdefault(f"{server} {form} {clients}", []).append(got)
    found: dict[str, Any] = {name: middle(each) for name, each in samples.items()}
    return found | {"runtime_calls_per_second": serving_cost.calls_a_second(model)}


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds, each figure by itself."""
    names = ("requests_per_second", "p50_ms", "p99_ms")
    return {name: round(float(np.median([r[name] for r in rounds])), 3) for name in names}


def starts(model: Served, count: int) -> dict[str, Any]:
    """Seconds from the start of a worker's process to ready, isolated and not by turns."""
    taken: dict[str, list[float]] = {name: [] for name in MUSTER}
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        signed = model.bundle(Path(name) / "b")
        for number in range(count + 1):
            for server, rung in MUSTER.items():
                (Path(name) / "run").mkdir(exist_ok=True)
                with Workers(Path(name) / "run") as slot:
                    begun = time.monotonic()
                    worker = slot.start(Path(name) / "b", *signed, rung=rung)
                    slot.wait(worker, Ready)
                    if number:  # The first of each warms the disk's cache.
                        taken[server].append(time.monotonic() - begun)
    return {
        server: {
            "median_seconds": round(float(np.median(each)), 4),
            "least_seconds": round(min(each), 4),
            "starts": len(each),
        }
        for server, each in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=10)
    parts = (*serving_models.MODELS, "starts", "recording", "supervisor")
    parser.add_argument("--part", choices=parts, action="append", help="only this")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.part or parts:
        machine = {
            "cpus": os.cpu_count(), "python": platform.python_version(),
            "load_before": round(os.getloadavg()[0], 1), "isolation": available().value,
        }  # fmt: skip
        if part == "starts":
            made = {
                name: starts(build(), options.starts)
                for name, build in serving_models.MODELS.items()
            }
        elif part == "recording":
            made = serving_cost.recording(serving_models.mlp())
        elif part == "supervisor":
            made = serving_cost.supervisor(serving_models.mlp())
        else:
            made = measure(serving_models.MODELS[part](), options.rounds, options.seconds)
        found[part] = {"measured": made, "machine": machine}
        print(part, json.dumps(found[part], indent=1), flush=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        serving_report.write(found)


if __name__ == "__main__":
    main()
