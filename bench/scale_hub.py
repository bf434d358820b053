"""A hub to be measured: its database filled with devices, its processes watched by the kernel."""

import json
import os
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from bench.fleet import windows
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from muster_hub.identity.parsing import Request
from muster_hub.identity.pki import Pki
from muster_hub.settings import config
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.store import Store
from muster_hub.storage.tables import target
from muster_protocol.signals import baseline
from muster_protocol.wire import manifest as manifest_wire
from muster_protocol.wire.manifest import Build, File, Golden, Manifest, Tensor
from support.served import Served

SLOT = "main"
SITES = 20
DEVICES_PER_PROCESS = 5_000
END_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


class MeasuredHub(Served):
    """``make`` fills it before it starts: devices with certificates, versions that are signed."""

    def make(self, devices: int) -> list[str]:
        settings = config.load(self.data)
        self.names = names = [f"dev-{number:05}" for number in range(devices)]
        self.files = self.data / "devices"
        self.files.mkdir()
        pki, now = Pki(settings.ca), time.time()
        key = ec.generate_private_key(ec.SECP256R1())  # one for all: making them is not measured
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip
        rows = []
        for number, name in enumerate(names):
            issued = pki.issue_device(Request(name, key.public_key(), ""), name, now)
            (self.files / f"{name}.pem").write_bytes(key_pem + issued.pem)
            rows.append(
                {
                    "id": name, "labels": {"site": f"s{number % SITES}"}, "created": now,
                    "approved": True, "revoked": False, "online": False, "set_aside": 0,
                    "set_aside_fault": "", "retries": {}, "revision": 0,
                    "certificate_expires": issued.expires,
                }
            )  # fmt: skip
        store = Store(settings.database_url)
        with store.write() as session:
            session.connection().execute(insert(target(models.Device)), rows)
            session.add(models.Model(name=windows.MODEL, created=now))
            session.flush()
            for version in windows.FEATURES:
                data = self._manifest(Blobs(settings.blobs), version)
                session.add(
                    models.Version(
                        model=windows.MODEL, version=version, manifest=data,
                        manifest_sha256=Blobs(settings.blobs).put(data), status="published",
                        size_bytes=1, created=now, created_by="bench",
                    )
                )  # fmt: skip
        store.close()
        return names

    def _manifest(self, blobs: Blobs, version: str) -> bytes:
        known = baseline.encode(windows.fitted(windows.FEATURES[version]))
        files = [
            File(name, len(data), blobs.put(data))
            for name, data in {
                "model.onnx": version.encode() * 1_000, "golden.npz": b"golden" * 100,
                "baseline.bin": known,
            }.items()
        ]  # fmt: skip
        return manifest_wire.encode(
            Manifest(
                model=windows.MODEL, version=version, created=0,
                inputs=(Tensor("x", "FP32", (-1, windows.FEATURES[version])),),
                outputs=(Tensor("y", "FP32", (-1, 1)),),
                builds=(Build("onnx", "model.onnx", 1 << 24),), files=tuple(files),
                golden=Golden("golden.npz"), baseline="baseline.bin",
            )
        )  # fmt: skip

    def run(self) -> None:
        self.process = psutil.Process(self.ready().pid)
        self.watch_broker()

    def watch_broker(self) -> None:
        """The broker that runs now."""
        (running,) = self.brokers()
        self.mosquitto = psutil.Process(running)

    def broker_is_new(self) -> bool:
        """Whether another broker runs than the one watched, which may have been killed."""
        return any(running != self.mosquitto.pid for running in self.brokers())

    def roll_out(self, version: str) -> int:
        """A version to everybody at once: no canary, no soak, no gate. The rollout's number."""
        order = {
            "model": windows.MODEL, "version": version, "slot": SLOT, "canary": 0,
            "min_soak_seconds": 0, "timeout_seconds": 3600,
        }  # fmt: skip
        return int(self.ask("/rollouts", order)["id"])

    def cpu_seconds(self) -> dict[str, float]:
        return {"hub": _spent(self.process), "broker": _spent(self.mosquitto)}

    def memory_mb(self) -> dict[str, float]:
        return {
            "hub": round(self.process.memory_info().rss / 1e6, 1),
            "broker": round(self.mosquitto.memory_info().rss / 1e6, 1),
        }

    def count(self, query: str) -> int:
        """A number from the hub's own database, read beside it."""
        with sqlite3.connect(f"file:{self.data / 'hub.db'}?mode=ro", uri=True, timeout=60) as base:
            return int(base.execute(query).fetchone()[0] or 0)

    def listed(self, query: str) -> list[str]:
        """The first column of each row, in words."""
        with sqlite3.connect(f"file:{self.data / 'hub.db'}?mode=ro", uri=True, timeout=60) as base:
            return [str(row[0]) for row in base.execute(query)]

    def timed(self, path: str, body: Any = None) -> tuple[float, bool]:
        """Seconds until the API has answered, and whether it said yes."""
        begun = time.perf_counter()
        try:
            self.ask(path, body)
        except (urllib.error.URLError, OSError, ssl.SSLError):
            return time.perf_counter() - begun, False
        return time.perf_counter() - begun, True

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(60)


class FleetProcess:
    """A part of the fleet in a process of its own; ``said`` is the latest it said of itself."""

    def __init__(self, hub: MeasuredHub, names: list[str], number: int) -> None:
        settings = hub.data / f"fleet-{number}.json"
        settings.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1", "port": hub.broker, "ca": str(hub.ca),
                    "files": str(hub.files), "names": names,
                }
            )
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.fleet", settings], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self.said: dict[str, Any] = {}
        # Always: a pipe that nobody reads is full after some minutes, and the fleet stands still.
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """The latest that it said."""
        if self.process.poll() is not None:
            raise RuntimeError(f"a part of the fleet ended by itself: {self.process.returncode}")
        return self.said

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said = json.loads(line)


class MeasuredFleet:
    """All processes of the fleet together."""

    def __init__(self, hub: MeasuredHub, names: list[str]) -> None:
        self.parts = [
            FleetProcess(hub, names[first : first + DEVICES_PER_PROCESS], first)
            for first in range(0, len(names), DEVICES_PER_PROCESS)
        ]

    def order(self, line: str) -> None:
        for part in self.parts:
            part.order(line)

    def said(self) -> dict[str, float]:
        """Sums of what the parts said; the share of a core is of the busiest part."""
        heard = [part.heard() for part in self.parts]
        if not all(heard):
            return {}
        return {
            name: sum(each[name] for each in heard)
            for name in heard[0]
            if name not in ("at", "seconds")
        }

    def end(self) -> None:
        for part in self.parts:
            part.end()


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
