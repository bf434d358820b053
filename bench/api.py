"""How long the API's lists and the console's pages take over ten thousand devices:
``python -m bench.api [--devices N]``.

A real hub's database on SQLite, its HTTP server on loopback without TLS, one client that asks in
turn. Latency is what the client sees, from asking to the last byte, of a page to the first. Writes
results/api.json.
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
from bench.api_fill import BUSY, ROLLOUTS, fill

from muster_hub.api.hub import Hub
from muster_hub.app.garbage import Garbage
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.console.site import create_site
from muster_hub.settings.config import BrokerSettings, Http

RESULTS = Path(__file__).parent / "results" / "api.json"
TARGET_MS = 50.0
PAGE_TARGET_MS = 150.0
LISTS = {
    "devices, first page": "/devices?limit=100",
    "devices, middle": "/devices?limit=100&cursor=dev-05000",
    "devices by two labels": "/devices?limit=100&selector=site%3Doslo,line%20in%20(1,2)",
    "devices, one in a hundred": "/devices?limit=100&selector=cell%3D42",
    "devices, none": "/devices?limit=100&selector=site%3Dnowhere",
    "windows of a device": f"/devices/{BUSY}/windows?limit=100",
    "alerts": "/alerts?limit=100",
    "alerts, open": "/alerts?limit=100&state=open",
    "alerts by label": "/alerts?limit=100&selector=site%3Doslo",
    "alerts by label, none": "/alerts?limit=100&selector=site%3Dnowhere",
    "events": "/events?limit=100&after=25000",
    "events by label": "/events?limit=100&selector=cell%3D42",
    "events by label, none": "/events?limit=100&selector=site%3Dnowhere",
    "rollouts": "/rollouts?limit=100",
    "rollouts, middle": "/rollouts?limit=100&cursor=1000",
    "assignments": "/assignments?limit=100",
    "assignments, middle": "/assignments?limit=100&cursor=1000",
    "models": "/models?limit=100",
    "audit": "/audit?limit=100",
    "audit, middle": "/audit?limit=100&cursor=25000",
    "silences": "/silences?limit=100",
    "webhooks": "/webhooks?limit=100",
    "tokens": "/tokens?limit=100",
    "users": "/users?limit=100",
    "expiries": "/expiries?days=30&limit=100",
}
LIMITED = {
    "devices of a site and its models": "/devices?limit=100",
    "alerts of a site and its models": "/alerts?limit=100",
    "events of a site and its models": "/events?limit=100",
    "rollouts of a site and its models": "/rollouts?limit=100",
    "assignments of a site and its models": "/assignments?limit=100",
}
"""Asked with a token that is limited to a site and to some models."""
PAGES = {
    "the fleet": "/",
    "the fleet by a label": "/?q=site%3Doslo",
    "a device": f"/devices/{BUSY}",
    "rollouts": "/rollouts",
    "a rollout on the whole fleet": f"/rollouts/{ROLLOUTS}",
    "its rollback": f"/rollouts/{ROLLOUTS}/rollback",
    "a new rollout": "/rollouts/new",
    "drift": "/drift",
    "drift on a site": "/drift?model=model-00&site=oslo",
    "an act on a site": "/bulk?q=site%3Doslo&act=retry",
    "inbox": "/inbox",
    "models": "/models",
    "a model": "/models/model-00",
    "delivery": "/delivery",
    "audit": "/audit",
    "trust": "/trust",
    "the API": "/docs",
}
"""Of the console."""


def measure(base: str, token: str, lists: dict[str, str], runs: int) -> dict[str, dict[str, float]]:
    found = {}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        for name, path in lists.items():
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
            print(f"{name:38} {found[name]}", flush=True)
    return found


def measure_pages(base: str, token: str, runs: int) -> dict[str, dict[str, float]]:
    """Until the first byte of each page, compressed as browsers ask for it."""
    found = {}
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/html"}
    with httpx.Client(base_url=base, headers=headers, timeout=60) as client:
        for name, path in PAGES.items():
            took, size = [], 0
            for _ in range(runs + 3):
                began = time.perf_counter()
                with client.stream("GET", path) as answer:
                    parts = answer.iter_raw()
                    size = len(next(parts))
                    took.append(1000 * (time.perf_counter() - began))
                    size += sum(map(len, parts))
                answer.raise_for_status()
            cuts = statistics.quantiles(took[3:], n=100)
            found[name] = {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2),
                           "bytes": size}  # fmt: skip
            print(f"page: {name:32} {found[name]}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as directory:
        plenty = Http(reads_per_second=1e6)
        settings = initialise(
            Path(directory) / "hub", NewHub(("localhost",), plenty, BrokerSettings())
        )
        settings = msgspec.structs.replace(settings, http=plenty)
        hub = Hub.open(settings, time.time)
        tokens = fill(hub, asked.devices)
        app = create_site(hub)
        Garbage().started()
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)  # uvicorn starts in its thread
            port = server.servers[0].sockets[0].getsockname()[1]
            base = f"http://127.0.0.1:{port}"
            lists = measure(base, tokens["admin"], LISTS, asked.runs)
            lists |= measure(base, tokens["limited"], LIMITED, asked.runs)
            pages = measure_pages(base, tokens["admin"], asked.runs)
        finally:
            server.should_exit = True
            thread.join()
            hub.store.close()
    worst = max(item["p95_ms"] for item in lists.values())
    worst_page = max(item["p95_ms"] for item in pages.values())
    result = {
        "devices": asked.devices, "runs": asked.runs, "database": "SQLite",
        "python": platform.python_version(), "target_p95_ms": TARGET_MS, "worst_p95_ms": worst,
        "lists": lists, "target_page_p95_ms": PAGE_TARGET_MS, "worst_page_p95_ms": worst_page,
        "pages": pages,
    }  # fmt: skip
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"worst p95 {worst} ms, target {TARGET_MS} ms")
    print(f"worst page {worst_page} ms, target {PAGE_TARGET_MS} ms")
    return 0 if worst < TARGET_MS and worst_page < PAGE_TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
