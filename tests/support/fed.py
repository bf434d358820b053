"""Feeds for tests: bundles that name their features, a plant's broker, and whole feed processes."""

import hashlib
import json
import queue
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from muster_agent.feeds.control import Notice, Serve
from muster_agent.feeds.process import FeedEnded, FeedEvent, FeedProcess, FeedSaid
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.manifest import Fallback, Manifest
from support import models
from support.mosquitto import BINARY
from support.ports import free_port
from support.waiting import until
from support.workers import Workers

WAIT_SECONDS = 60.0
FEATURES = (
    InputFeature("flow", unit="m3/h", least=0.0, most=100.0),
    InputFeature("temperature", unit="°C", least=-20.0, most=200.0),
)
UNSURE = Fallback("unsure", "constant", {"probabilities": [0.25, 0.25, 0.5]})


def fed_bundle(directory: Path, **fields: Any) -> tuple[Manifest, str]:
    """A classifier of two features with a constant fallback."""
    features = fields.pop("features", FEATURES)
    count = fields.pop("inputs", 0) or len(features)
    w, b = models.weights(count, 3)
    cases = np.random.default_rng(3).normal(size=(2, 1, count)).astype(np.float32)
    golden = {f"{number}/input:x": case for number, case in enumerate(cases)} | {
        f"{number}/output:probabilities": models.softmax(case, w, b)
        for number, case in enumerate(cases)
    }
    return models.write_bundle(
        directory,
        **{
            "runtimes": ("onnx",),
            "inputs": count,
            "golden": golden,
            "format": 2,
            "features": features,
            "window": InputWindow(every_seconds=0.1),
            "quality": InputQuality(stale_seconds=2.0),
            "fallbacks": (UNSURE,),
            **fields,
        },
    )


class PlantBroker:
    """A Mosquitto that lets anybody in, as on many shop floors."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._config = directory / "plant.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            "set_tcp_nodelay true\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [BINARY, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                return False
            return True

        until(answers, bool)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=WAIT_SECONDS)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class PlantClient:
    """Somebody else in the plant: publishes, and collects what feeds say."""

    def __init__(self, port: int, *topics: str) -> None:
        self.messages = queue.Queue[tuple[str, Any]]()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_socket_open = lambda _client, _data, opened: opened.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.on_message = lambda _client, _data, message: self.messages.put(
            (message.topic, json.loads(message.payload))
        )
        subscribed = queue.Queue[int]()
        wanted = [(each, 1) for each in topics or ("nothing",)]
        self._client.on_connect = lambda *_: self._client.subscribe(wanted)
        self._client.on_subscribe = lambda *_: subscribed.put(1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=WAIT_SECONDS)

    def publish(self, topic: str, payload: object, *, retain: bool = False) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self._client.publish(topic, text, 1, retain).wait_for_publish(WAIT_SECONDS)

    def answer(self, holds: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next answer of which this is true."""
        deadline, last = time.monotonic() + WAIT_SECONDS, None
        while time.monotonic() < deadline:
            try:
                _, last = self.messages.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                break
            if holds(last):
                return last
        raise AssertionError(f"no such answer; the last was {last}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class FedSlot:
    """A slot with a real worker and a real feed process beside it, both of one directory."""

    def __init__(self, directory: Path, feed: str, **bundle: Any) -> None:
        """``feed`` is what stands in ``agent.toml`` below ``[feeds.press]``."""
        self.directory = directory
        self.bundle = directory / "bundle"
        self.manifest, self.sha256 = fed_bundle(self.bundle, **bundle)
        (directory / "agent.toml").write_text(
            f'device = "press-7"\nrun_dir = "."\n[broker]\nhost = "localhost"\n{feed}'
        )
        self.workers = Workers(directory)
        self.events = queue.Queue[FeedEvent]()
        self.notices: list[Notice] = []
        self.process: FeedProcess | None = None

    def begin_worker(self, **fields: Any) -> Any:
        worker = self.workers.start(
            self.bundle, self.manifest, self.sha256, fallback="unsure", **fields
        )
        from muster_agent.worker.events import Ready  # noqa: PLC0415 - beside its only use

        self.workers.wait(worker, Ready)
        worker.accept()
        return worker

    def begin_feed(self) -> FeedProcess:
        self.process = FeedProcess("press", self.directory, self.events.put)
        self.serve()
        return self.process

    def serve(self, sha256: str | None = None) -> None:
        assert self.process is not None
        listed = self.manifest
        path = str(self.bundle / "manifest.json")
        self.process.serve(
            Serve(listed.model, listed.version, sha256 or self.sha256, path, "unsure")
        )

    def notice(self, kind: str) -> Notice:
        """A notice of that kind; those of others wait for who asks for them."""
        while True:
            for notice in self.notices:
                if notice.kind == kind:
                    self.notices.remove(notice)
                    return notice
            event = self.events.get(timeout=WAIT_SECONDS)
            assert isinstance(event, FeedSaid), event
            self.notices.append(event.notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.stop()
            while not isinstance(self.events.get(timeout=WAIT_SECONDS), FeedEnded):
                pass
        self.workers.__exit__()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
