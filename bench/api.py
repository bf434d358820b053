"""How long the API's lists take over ten thousand devices: ``python -m bench.api [--devices N]``.

A real hub's database on SQLite, its HTTP server on loopback without TLS, one client that asks in
turn. Latency is what the client sees, from asking to the last byte. Writes results/api.json.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import msgspec
import uvicorn

from muster_hub.api.app import create_app
from muster_hub.api.hub import Hub
from muster_hub.config import Broker, Http
from muster_hub.db import models
from muster_hub.governance import make_token
from muster_hub.initialise import Wanted, initialise

RESULTS = Path(__file__).parent / "results" / "api.json"
TARGET_MS = 50.0
LISTS = {
    "devices, first page": "/devices?limit=100",
    "devices, middle": "/devices?limit=100&cursor=dev-05000",
    "devices by two labels": "/devices?limit=100&selector=site%3Doslo,line%20in%20(1,2)",
    "devices, one in a hundred": "/devices?limit=100&selector=cell%3D42",
    "devices, none": "/devices?limit=100&selector=site%3Dnowhere",
    "alerts": "/alerts?limit=100",
    "alerts by label": "/alerts?limit=100&selector=site%3Doslo",
    "events": "/events?limit=100&after=5000",
    "rollouts": "/rollouts?limit=100",
    "assignments": "/assignments?limit=100",
    "audit": "/audit?limit=100",
}


def fill(hub: Hub, devices: int) -> str:
    """Devices with reports of a usual size, an alert on each tenth, two events on each."""
    report = {
        "epoch": 1, "generation": 3, "outbox_rows": 0, "refusal": None, "refusal_detail": "",
        "slots": {
            "vision": {
                "running": {
                    "model": "digits", "version": "2", "manifest": "ab" * 32, "runtime": "onnx",
                },
                "update": {"state": "committed", "detail": "", "refusal": None},
                "health": "ok",
            }
        },
        "facts": {
            "agent_version": "0.1.0", "machine": "aarch64", "memory_bytes": 4 << 30,
            "runtimes": {"onnx": "1.32.0", "tflite": "2.3.0"},
        },
        "trust": {"versions": {"root": 1, "targets": 3, "snapshot": 9, "timestamp": 40}},
    }  # fmt: skip
    goal = {"model": "digits", "version": "2", "manifest": "ab" * 32}
    payload = msgspec.json.encode({"slots": {"vision": {"champion": goal}}})
    now = time.time()
    with hub.store.write() as session:
        for number in range(devices):
            name = f"dev-{number:05}"
            session.add(
                models.Device(
                    id=name, created=now, online=number % 20 > 0, last_seen=now, reported=now,
                    report=report,
                    labels={
                        "site": ("berlin", "oslo", "rome")[number % 3],
                        "line": str(number % 8), "cell": str(number % 100),
                    },
                )
            )  # fmt: skip
        session.flush()
        for number in range(devices):
            name = f"dev-{number:05}"
            session.add(
                models.DirectiveRow(
                    device=name, epoch=1, generation=3, content_sha256="0" * 64, payload=payload,
                    envelope=b"{}", issued=now, expires=now + 1e6,
                )
            )  # fmt: skip
            for kind in ("update", "note"):
                session.add(models.EventRow(device=name, kind=kind, received=now))
            if number % 10 == 0:
                session.add(
                    models.Alert(
                        key=f"silence/{name}", device=name, kind="silence", severity="warning",
                        state="open", opened=now, updated=now, title=f"{name} is silent",
                    )
                )  # fmt: skip
        return make_token(session, "bench", "admin", now)


def measure(base: str, token: str, runs: int) -> dict[str, dict[str, float]]:
    found = {}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        for name, path in LISTS.items():
            took = []
            for _ in range(runs + 3):
                began = time.perf_counter()
                answer = client.get(f"/api/v1{path}")
                took.append(1000 * (time.perf_counter() - began))
                answer.raise_for_status()
            cuts = statistics.quantiles(took[3:], n=100)
            found[name] = {
                "items": len(answer.json()["items"]), "p50_ms": round(cuts[49], 2),
                "p95_ms": round(cuts[94], 2), "bytes": len(answer.content),
            }  # fmt: skip
            print(f"{name:28} {found[name]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as directory:
        plenty = Http(reads_per_second=1e6)
        settings = initialise(Path(directory) / "hub", Wanted(("localhost",), plenty, Broker()))
        settings = msgspec.structs.replace(settings, http=plenty)
        hub = Hub.open(settings, time.time)
        token = fill(hub, asked.devices)
        server = uvicorn.Server(
            uvicorn.Config(create_app(hub), host="127.0.0.1", port=0, log_level="critical")
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            lists = measure(f"http://127.0.0.1:{port}", token, asked.runs)
        finally:
            server.should_exit = True
            thread.join()
            hub.store.close()
    worst = max(one["p95_ms"] for one in lists.values())
    result = {
        "devices": asked.devices, "runs": asked.runs, "database": "SQLite",
        "python": platform.python_version(), "target_p95_ms": TARGET_MS, "worst_p95_ms": worst,
        "lists": lists,
    }  # fmt: skip
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"worst p95 {worst} ms, target {TARGET_MS} ms")
    return 0 if worst < TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
