"""A model of 640 KB over slow links: a real hub, real agents, and a plain download beside each.

    python -m bench links [--profile NAME ...]

Each device lives in a network namespace of its own, where the hub's two ports lead through a cable
of a given rate, 400 ms away each way, with stalls, or there for a minute and away for the next. A
plain HTTPS download of the same file, which goes on by ranges after a failure, has a cable of the
same kind to itself. Writes ``bench/results/links.json`` and a part of ``bench/README.md``. The
devices run side by side, since waiting costs no processor; it takes some ten minutes.
"""

# ruff: noqa: E402 - the tests' builders are found only after the path is set

import argparse
import base64
import contextlib
import http.client
import json
import os
import platform
import socket
import sqlite3
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from bench import links_report, update_models
from bench.links_cable import Cable, Profile

from muster_agent.observe.outbox import Outbox
from muster_hub.demo import settings
from muster_hub.demo.bundles import npz
from muster_hub.demo.feeder import UnixConnection
from muster_hub.demo.fleet import DemoDevice, DemoHub, DeviceSpec
from muster_hub.demo.processes import Child, ProcessError
from muster_hub.registry import bundle
from muster_protocol.wire import manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import MIB
from support.ports import free_port

RESULTS = ROOT / "bench" / "results" / "links.json"
MODEL, SLOT = "dense", "main"
MODEL_BYTES = 640 * 1000
SMALL_BYTES = 20_000
WINDOW_SECONDS = 5.0
PATIENCE_SECONDS = 120.0
TIMEOUT_SECONDS = 90.0
"""Of the rollout: shorter than what most of the links need for the model."""
LOOK_SECONDS = 0.25
TRIES = 4
MOST_TIMES = 4.0
"""A profile that takes so many times as long as its size needs has failed."""
UNANSWERED = (OSError, http.client.HTTPException)
DOWNLOAD_READ_SECONDS = 20.0
DOWNLOAD_BLOCK_BYTES = 16 * 1024

PROFILES = {
    "2 KB/s": Profile(2_000),
    "5 KB/s": Profile(5_000),
    "12 KB/s": Profile(12_000),
    "100 KB/s": Profile(100_000),
    "5 KB/s, a minute up, a minute down": Profile(5_000, up_seconds=60.0),
    "2 KB/s, broker only": Profile(2_000),
    "12 KB/s, broker only": Profile(12_000),
}
BROKER_ONLY = "broker only"

_JOURNAL = "SELECT state FROM journal"
_LOG = """
CREATE TABLE bench_row (id INTEGER, at REAL);
CREATE TABLE bench_sent (id INTEGER, stream TEXT, sequence INTEGER);
CREATE TRIGGER bench_put AFTER INSERT ON outbox_row BEGIN
  INSERT INTO bench_row VALUES (NEW.id, (julianday('now') - 2440587.5) * 86400.0);
END;
CREATE TRIGGER bench_launch AFTER UPDATE OF sequence ON outbox_row BEGIN
  INSERT INTO bench_sent VALUES (NEW.id, NEW.stream, NEW.sequence);
END
"""


class CabledDevice:
    """An agent in a namespace whose only way out is its cable."""

    def __init__(self, name: str, profile: Profile, hub: DemoHub, directory: Path) -> None:
        self.profile = profile
        self.device = DemoDevice(DeviceSpec(name, {"cable": name}), directory / name, hub)
        self.name = name
        self._hub = hub
        self._control = directory / f"{name}.sock"
        self._logs = directory
        self.child: Child | None = None
        self.cable: Cable | None = None

    def enrol(self, token: str) -> None:
        self.device.enrol(token, {"report_seconds": 10.0})
        settings.change(
            self.device.directory / "agent.toml", {"broker.port": self._hub.broker_port}
        )
        with contextlib.closing(sqlite3.connect(self._state, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            Outbox(connection)
            connection.executescript(_LOG)

    @property
    def _state(self) -> Path:
        return self.device.directory / "state.db"

    def start(self) -> None:
        http_port = int(self._hub.url.rpartition(":")[2])
        ports = [self._hub.broker_port, http_port]
        with socket.socket(socket.AF_UNIX) as control:
            control.bind(str(self._control))
            control.listen()
            control.settimeout(PATIENCE_SECONDS)
            self.child = Child(
                self.name,
                [
                    *("unshare", "--net", sys.executable, str(ROOT / "bench" / "links_cable.py")),
                    *(str(self._control), json.dumps(ports), *self.device.command),
                ],
                self._logs,
            )
            sent, _ = control.accept()
            with sent:
                _, descriptors, _, _ = socket.recv_fds(sent, 1, len(ports))
        listening = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        ways = list(zip(listening, [("127.0.0.1", port) for port in ports], strict=True))
        if self.name.endswith("broker-only"):
            ways[1] = (ways[1][0], ("127.0.0.1", free_port()))
        self.cable = Cable(self.profile, ways)

    def fetching(self) -> bool:
        """Whether its update has begun, by its own journal."""
        return any(state == "fetching" for (state,) in _read(self._state, _JOURNAL))

    def ask(self) -> None:
        """One inference, as a program on the device would."""
        body = {
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]
        }
        connection = UnixConnection(self.device.socket(SLOT))
        with (
            contextlib.suppress(*UNANSWERED),
            contextlib.closing(connection),
        ):
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(body))
            connection.getresponse().read()

    def delays(self, database: Path, since: float) -> list[float]:
        """Seconds from a window's end to its commit at the hub, of windows that ended since."""
        sent = _read(
            self._state,
            "SELECT hex(epoch), bench_sent.sequence, at FROM bench_sent JOIN bench_row "
            "ON bench_row.id = bench_sent.id JOIN outbox_stream "
            "ON outbox_stream.stream = bench_sent.stream WHERE bench_sent.stream = 'summary'",
        )
        received = {
            (epoch, sequence): at
            for epoch, sequence, at in _read(
                database,
                "SELECT epoch, sequence, received FROM summary_window "
                f"WHERE device = '{self.name}'",
            )
        }
        now = time.time()
        return [
            received.get((epoch.lower(), sequence), now) - at
            for epoch, sequence, at in sent
            if at >= since
        ]

    def close(self) -> None:
        if self.child is not None:
            self.child.stop()
        if self.cable is not None:
            self.cable.close()
        self.device.wire.close()


def _read(database: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def packed(directory: Path, version: str, size_bytes: int) -> tuple[bytes, dict[str, Path]]:
    """A model of about that size, as a manifest and its files."""
    stack = update_models.layers(size_bytes, seed=int(version))
    cases = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    made = directory / f"model-{version}"
    made.mkdir()
    files = {"model.onnx": made / "model.onnx", "golden.npz": made / "golden.npz"}
    files["model.onnx"].write_bytes(update_models.as_onnx(stack))
    golden = {"input:x": cases, "output:probabilities": update_models.run(stack, cases)}
    files["golden.npz"].write_bytes(npz(golden))
    encoded = bundle.pack(
        files,
        lambda _data: None,
        model=MODEL,
        version=version,
        created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 4)),),
        outputs=(manifest.Tensor("probabilities", "FP32", (-1, 3)),),
        builds=(manifest.Build("onnx", "model.onnx", 256 * MIB),),
        golden=manifest.Golden("golden.npz"),
        probation=manifest.Probation(seconds=1.0),
    )
    return encoded, files


def new_hub(directory: Path) -> DemoHub:
    """A busy machine may take longer than the demo allows to set one up."""
    for number in range(TRIES - 1):
        with contextlib.suppress(ProcessError):
            return DemoHub(directory / f"hub-{number}", window_seconds=WINDOW_SECONDS)
    return DemoHub(directory / "hub", window_seconds=WINDOW_SECONDS)


class Ground:
    """A hub and a device on each cable."""

    def __init__(self, directory: Path, profiles: dict[str, Profile], stack: ExitStack) -> None:
        self.directory = directory
        self.hub = new_hub(directory)
        hub = Child("hub", self.hub.command, directory)
        stack.callback(hub.stop)
        self.api = stack.enter_context(self.hub.api())
        self.wait("the hub answers", lambda: self.get("/health") is not None)
        self.manifest = ""
        """Of the version released last."""
        self.devices: dict[str, CabledDevice] = {}
        for number, (name, profile) in enumerate(profiles.items()):
            broker_only = "-broker-only" if BROKER_ONLY in name else ""
            device = CabledDevice(f"dev-{number}{broker_only}", profile, self.hub, directory)
            stack.callback(device.close)
            body = {"labels": {"bench": "links"}, "uses": 1, "expires_seconds": 3600}
            device.enrol(self.api.post("/enroll-tokens", body | {"device": device.name})["token"])
            device.start()
            self.devices[name] = device

    def get(self, path: str, *keys: str) -> Any:
        with contextlib.suppress(MusterError):
            found = self.api.get(path)
            for key in keys:
                found = found.get(key) if found is not None else None
            return found
        return None

    def wait(self, what: str, look: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not look():
            if time.monotonic() > until:
                raise AssertionError(f"{what}: never came")
            time.sleep(0.2)  # looked for from outside

    def release(self, version: str, size_bytes: int) -> Path:
        encoded, files = packed(self.directory, version, size_bytes)
        path = f"/models/{MODEL}/versions"
        with ExitStack() as opened:
            self.api.upload(
                path, encoded,
                {name: opened.enter_context(file.open("rb")) for name, file in files.items()},
            )  # fmt: skip
        published = f"{path}/{version}"
        self.wait("it is published", lambda: self.get(published, "status") == "published")
        self.manifest = sha256_hex(encoded)
        return files["model.onnx"]

    def roll_out(self, version: str, device: str = "") -> int:
        asked = {
            "model": MODEL, "version": version, "slot": SLOT, "min_soak_seconds": 0, "canary": 0,
            "timeout_seconds": TIMEOUT_SECONDS, "failures_allowed": len(PROFILES),
            "selector": f"device={device}" if device else "bench=links",
        }  # fmt: skip
        return int(self.api.post("/rollouts", asked)["id"])

    def slot(self, device: str) -> dict[str, Any]:
        found = self.get(f"/devices/{device}", "slots", SLOT)
        return found or {}


def installed(device: CabledDevice, digest: str) -> bool:
    return (device.device.directory / "store" / "bundles" / digest / "manifest.json").exists()


def measure(ground: Ground, digest: str, name: str, device: CabledDevice) -> dict[str, Any]:
    """Until the bundle is installed on the device; the rollout is under way."""
    cable = device.cable
    assert cable is not None
    ideal = MODEL_BYTES / device.profile.bytes_per_second / device.profile.share_up
    asked_at, since = time.monotonic(), time.time()
    while not device.fetching() and time.monotonic() - asked_at < PATIENCE_SECONDS:
        time.sleep(LOOK_SECONDS)  # the agent's state is looked at from outside
    begun, before = time.monotonic(), (cable.bytes_down, cable.bytes_up)
    while not installed(device, digest):
        if time.monotonic() - begun > MOST_TIMES * ideal + 60:
            break
        device.ask()
        time.sleep(LOOK_SECONDS)  # the agent's state is looked at from outside
    seconds = time.monotonic() - begun
    down, up = cable.bytes_down - before[0], cable.bytes_up - before[1]
    time.sleep(35.0 + 8 * device.profile.delay_seconds)  # the last windows are on their way
    delays = sorted(device.delays(ground.hub.data / "hub.db", since))
    return {
        "profile": name,
        "installed": installed(device, digest),
        "seconds_until_it_fetches": round(begun - asked_at, 1),
        "seconds": round(seconds, 1),
        "times_size_over_rate": round(seconds / ideal, 2),
        "bytes_down": down,
        "bytes_up": up,
        "times_bytes": round(down / MODEL_BYTES, 3),
        "refusals": _refusals(ground, device.name),
        "windows": len(delays),
        "telemetry_delay_seconds_max": round(delays[-1], 1) if delays else None,
    }


def _refusals(ground: Ground, device: str) -> int:
    """Events of the device that say so."""
    query = f"SELECT COUNT(*) FROM event WHERE device = '{device}' AND kind = 'refused'"
    return int(_read(ground.hub.data / "hub.db", query)[0][0])


def download(url: str, ca: Path, file: Path, token: str, profile: Profile) -> dict[str, Any]:
    """The same file by HTTPS over a cable of its own, with ranges from where it broke off."""
    port = int(url.rpartition(":")[2])
    listening = socket.create_server(("127.0.0.1", 0))
    cable = Cable(profile, [(listening, ("127.0.0.1", port))])
    own = listening.getsockname()[1]
    cable.slow()
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    size = file.stat().st_size
    done = bytearray()
    begun = time.monotonic()
    ideal = MODEL_BYTES / profile.bytes_per_second / profile.share_up
    digest = sha256_hex(file.read_bytes())
    while len(done) < size and time.monotonic() - begun < MOST_TIMES * ideal + 60:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", own, timeout=DOWNLOAD_READ_SECONDS, context=context
        )
        with (
            contextlib.suppress(*UNANSWERED),
            contextlib.closing(connection),
        ):
            headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={len(done)}-"}
            connection.request("GET", f"/api/v1/chunks/files/{digest}", headers=headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                time.sleep(0.5)  # its directive doesn't name the file yet
                continue
            while data := answer.read1(DOWNLOAD_BLOCK_BYTES):
                done += data
    seconds = time.monotonic() - begun
    cable.close()
    return {
        "complete": bytes(done) == file.read_bytes(),
        "seconds": round(seconds, 1),
        "times_size_over_rate": round(seconds / ideal, 2),
        "times_bytes": round(cable.bytes_down / MODEL_BYTES, 3),
    }


def run(profiles: dict[str, Profile]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="mu") as name, ExitStack() as stack:
        directory = Path(name)
        ground = Ground(directory, profiles, stack)
        ground.release("1", SMALL_BYTES)
        first = ground.roll_out("1")
        ground.wait(
            "version 1 runs everywhere",
            lambda: ground.get(f"/rollouts/{first}", "state") == "completed",
        )
        model = ground.release("2", MODEL_BYTES)
        digest = ground.manifest
        for device in ground.devices.values():
            assert device.cable is not None
            device.cable.slow()
        second = ground.roll_out("2")
        rows: dict[str, dict[str, Any]] = {}
        beside: dict[str, dict[str, Any]] = {}
        token = _token(ground)

        def follow(profile: str, device: CabledDevice) -> None:
            rows[profile] = measure(ground, digest, profile, device)
            print(json.dumps(rows[profile]), flush=True)

        def plain(profile: str, device: CabledDevice) -> None:
            ca = ground.hub.data / "ca.pem"
            beside[profile] = download(ground.hub.url, ca, model, token, device.profile)
            print(profile, json.dumps(beside[profile]), flush=True)

        threads = [
            threading.Thread(target=work, args=item)
            for item in ground.devices.items()
            for work in ((follow, plain) if BROKER_ONLY not in item[0] else (follow,))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome = ground.get(f"/rollouts/{second}", "state")
        return [
            row | {"plain_http": beside.get(profile), "rollout": outcome}
            for profile, row in rows.items()
        ]


def _token(ground: Ground) -> str:
    """A chunk token, out of a directive that the hub has signed."""
    name = next(iter(ground.devices.values())).name
    found = _read(
        ground.hub.data / "hub.db",
        f"SELECT envelope FROM directive WHERE device = '{name}'",
    )
    payload = json.loads(base64.b64decode(json.loads(found[0][0])["payload"]))
    return str(payload["sources"][0]["token"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, action="append")
    options = parser.parse_args()
    profiles = {name: PROFILES[name] for name in options.profile or PROFILES}
    load = round(os.getloadavg()[0], 1)
    found = {
        "rows": run(profiles),
        "model_bytes": MODEL_BYTES,
        "window_seconds": WINDOW_SECONDS,
        "machine": {
            "cpus": os.cpu_count(), "python": platform.python_version(), "load_before": load,
        },
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    links_report.write(found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
