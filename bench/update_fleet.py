"""Delivery measured: what a fleet costs the hub, and one agent beside plain MQTT and HTTP.

The broker is the hub's own, with mutual TLS and access rules; the hub's publisher and the agents
are processes of their own. The hub's bytes are counted by a relay between it and the broker.
"""

import contextlib
import http.client
import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from muster_hub.mqtt.broker import Broker
from muster_hub.mqtt.client import connect_unix
from muster_protocol.wire import topics
from support.broker_kit import Authority, broker_config

HERE = Path(__file__).parent
FLEETS = (1, 50, 200)
FLEET_MEGABYTES = 8
"""Each of 200 agents takes this much through TLS in Python on the same two cores."""
FETCH_ROUNDS = 4
WAYS = ("muster", "muster_unstored", "raw_mqtt", "http")
AGENTS_A_PROCESS = 100
RELAY_BYTES = 1 << 16


class Relay:
    """Passes one Unix-socket connection on to another socket and counts the bytes each way."""

    def __init__(self, path: Path, target: Path) -> None:
        self.sent = self.received = 0
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        near, _ = self._listener.accept()
        far = connect_unix(self._target)
        far.settimeout(None)
        with near, far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    source = near if key.data is far else far
                    data = source.recv(RELAY_BYTES)
                    if not data:
                        return
                    key.data.sendall(data)
                    if key.data is far:
                        self.sent += len(data)
                    else:
                        self.received += len(data)

    def close(self) -> None:
        self._listener.close()


class Ground:
    """Broker, hub and certificates of ``agents`` devices, with one file to deliver."""

    def __init__(self, directory: Path, megabytes: int, agents: int) -> None:
        self.file = directory / "file"
        self.file.write_bytes(np.random.default_rng(1).bytes(megabytes << 20))
        self.authority = Authority(directory / "ca")
        for number in range(agents):
            self.authority.issue(f"dev-{number}")
        self.broker = Broker(broker_config(self.authority, directory / "broker"))
        self.broker.start()
        address = self.broker.address
        assert address.unix is not None
        assert address.password is not None
        self.relay = Relay(directory / "relay", address.unix)
        (directory / "hub").mkdir()
        self.hub = started(
            "update_hub.py", directory / "hub", directory / "relay", address.password, self.file
        )
        self.chunks = directory / "chunks.json"
        self.chunks.write_text(json.dumps(read_line(self.hub)["chunks"]))

    def agents(self, first: int, count: int, *store: Path) -> "subprocess.Popen[str]":
        port = self.broker.config.port
        return started(
            "update_agents.py", self.authority.directory, port, first, count, self.chunks, *store
        )

    def publish(self, agents: int) -> None:
        assert self.hub.stdin is not None
        self.hub.stdin.write(f"go {agents}\n")
        self.hub.stdin.flush()

    def end_hub(self) -> dict[str, Any]:
        """What it has cost the hub."""
        output, _ = self.hub.communicate("", timeout=60)
        found: dict[str, Any] = json.loads(output)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.hub.poll() is None:
            self.hub.kill()
            self.hub.wait()
        self.broker.stop()
        self.relay.close()


def started(script: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, HERE / script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )  # fmt: skip


def read_line(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def wait_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def one_fleet(agents: int, megabytes: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="mu") as name,
        Ground(Path(name), megabytes, agents) as ground,
    ):
        groups = [
            ground.agents(first, min(AGENTS_A_PROCESS, agents - first))
            for first in range(0, agents, AGENTS_A_PROCESS)
        ]
        for group in groups:
            wait_ready(group)
        sent = ground.relay.sent
        ground.publish(agents)
        found = [json.loads(group.communicate(timeout=500)[0]) for group in groups]
        sent = ground.relay.sent - sent
        spent = ground.end_hub()
    begun = min(each["begun"] for each in found)
    return {
        "agents": agents,
        "seconds_until_all_have_it": round(max(max(each["ended"]) for each in found) - begun, 2),
        "hub_cpu_seconds": spent["cpu_seconds"],
        "hub_bytes_sent": sent,
        "hub_chunks_read": spent["chunks_read"],
        "asked_the_hub": sum(each["wants"] for each in found),
    }


def fleet(megabytes: int = FLEET_MEGABYTES) -> dict[str, Any]:
    rows = [one_fleet(agents, megabytes) for agents in FLEETS]
    return {
        "rows": rows,
        "megabytes": megabytes,
        "egress_ratio": round(rows[-1]["hub_bytes_sent"] / rows[0]["hub_bytes_sent"], 3),
    }


def fetch(megabytes: int) -> dict[str, Any]:
    """One agent, verified and stored; plain MQTT and HTTP as fast as their clients go."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(FETCH_ROUNDS):
        with (
            tempfile.TemporaryDirectory(prefix="mu") as name,
            Ground(Path(name), megabytes, 2) as ground,
        ):
            directory = Path(name)
            ground.publish(2)
            while ground.relay.sent < megabytes << 20:
                time.sleep(0.05)  # the relay counts what passes
            time.sleep(1.0)  # the broker takes in what the relay has passed on
            ways = {
                "muster": lambda at=directory, on=ground: muster(on, at / "store"),
                "muster_unstored": lambda on=ground: muster(on),
                "raw_mqtt": lambda at=directory, on=ground: raw_mqtt(on, at / "by-mqtt"),
                "http": lambda at=directory, on=ground: by_http(on, at / "by-http"),
            }
            # A different one goes first each time: the later ones find a warmer machine.
            order = WAYS[number:] + WAYS[:number]
            for way in order:
                seconds[way].append(ways[way]())
    speed = {way: round(megabytes / float(np.median(each)), 1) for way, each in seconds.items()}
    return {
        "megabytes": megabytes,
        "rounds": FETCH_ROUNDS,
        "mib_per_second": speed,
        "seconds": {way: [round(item, 2) for item in each] for way, each in seconds.items()},
        "of_raw_mqtt": round(speed["muster_unstored"] / speed["raw_mqtt"], 2),
        "of_http": round(speed["muster_unstored"] / speed["http"], 2),
    }


def muster(ground: Ground, *store: Path) -> float:
    agent = ground.agents(0, 1, *store)
    found = json.loads(agent.communicate(timeout=300)[0].splitlines()[-1])
    return float(found["ended"][0] - found["begun"])


def raw_mqtt(ground: Ground, target: Path) -> float:
    """A plain client that subscribes to every piece at once, writes them to one file, syncs it."""
    names = json.loads(ground.chunks.read_text())
    size = ground.file.stat().st_size
    done = threading.Event()
    with target.open("wb") as out:

        def came(_client: Any, _userdata: Any, message: Any) -> None:
            out.write(message.payload)
            if out.tell() >= size:
                done.set()

        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="dev-1", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.tls_set_context(trusting(ground.authority, "dev-1"))
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.on_message = came
        client.connect("127.0.0.1", ground.broker.config.port)
        client.loop_start()
        assert connected.wait(10)
        begun = time.monotonic()
        client.subscribe([(topics.chunk(name), 1) for name in names])
        assert done.wait(300)
        out.flush()
        os.fsync(out.fileno())
        seconds = time.monotonic() - begun
        client.disconnect()
        client.loop_stop()
    return seconds


def by_http(ground: Ground, target: Path) -> float:
    """One GET of the whole file over HTTPS, written and synced."""
    with https_server(ground) as port:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=trusting(ground.authority, "dev-1")
        )
        connection.connect()
        begun = time.monotonic()
        connection.request("GET", f"/{ground.file.name}")
        answer = connection.getresponse()
        with target.open("wb") as out:
            while data := answer.read(1 << 17):
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
        seconds = time.monotonic() - begun
        connection.close()
    assert target.stat().st_size == ground.file.stat().st_size
    return seconds


@contextlib.contextmanager
def https_server(ground: Ground) -> Iterator[int]:
    files = ground.authority.directory
    server = started(
        "update_https.py", ground.file.parent, files / "broker.pem", files / "broker.key"
    )
    try:
        yield read_line(server)
    finally:
        server.kill()
        server.wait()


def trusting(authority: Authority, device: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    files = authority.directory
    context.load_cert_chain(files / f"{device}.pem", files / f"{device}.key")
    return context
