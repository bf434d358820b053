"""Real workers and real clients for tests."""

import json
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from muster_agent.worker.events import Failed, WorkerEvent
from muster_agent.worker.process import WorkerProcess, WorkerSpec
from muster_agent.worker.ring import Ring, RingLayout
from muster_agent.worker.slot_socket import SlotSockets, open_listeners
from muster_protocol.wire.manifest import Manifest, Runtime

WAIT_SECONDS = 60.0
E = TypeVar("E")


class Workers:
    """A slot's sockets and the workers started on them; ends every one of them on exit."""

    def __init__(self, directory: Path, *, tcp: bool = False) -> None:
        self.directory = directory
        self.sockets: SlotSockets = open_listeners(directory / "slot.sock", 0 if tcp else None)
        self.events: dict[str, queue.Queue[WorkerEvent]] = {}
        self.workers: list[WorkerProcess] = []

    def start(
        self,
        bundle: Path,
        manifest: Manifest,
        sha256: str,
        runtime: Runtime | None = "onnx",
        **fields: Any,
    ) -> WorkerProcess:
        """Start a worker with a ring of its own; does not wait for it."""
        name = f"w{len(self.workers)}"
        ring = fields.pop("ring", None) or self.ring_for(name, manifest, sha256)
        spec = WorkerSpec(
            **{
                "worker_id": name,
                "bundle": bundle,
                "manifest": manifest,
                "manifest_sha256": sha256,
                "build": manifest.build_for((runtime,)) if runtime else None,
                "sockets": self.sockets,
                "ring": ring,
                **fields,
            }
        )
        self.events[name] = queue.Queue()
        worker = WorkerProcess(spec, self.events[name].put)
        self.workers.append(worker)
        worker.start()
        return worker

    def ring_for(self, name: str, manifest: Manifest, sha256: str) -> Path:
        """An empty ring for the worker of that name."""
        path = self.directory / f"{name}.ring"
        Ring.create(path, RingLayout.of(manifest, sha256), 4096).close()
        return path

    def wait(self, worker: WorkerProcess, kind: type[E]) -> E:
        """The worker's next event of this kind; fails the test when it can't come any more."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            left = deadline - time.monotonic()
            event = self.events[worker.spec.worker_id].get(timeout=max(left, 0.01))
            if isinstance(event, kind):
                return event
            assert not isinstance(event, Failed), event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.stop(0.0)
        for worker in self.workers:
            assert worker.pid is None or worker.wait(WAIT_SECONDS)
        self.sockets.close()


class Client:
    """One HTTP connection over a Unix socket or loopback TCP."""

    def __init__(self, path: Path, *, tcp_port: int | None = None) -> None:
        if tcp_port is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(path))
        else:
            self.socket = socket.create_connection(("127.0.0.1", tcp_port))
        self.socket.settimeout(WAIT_SECONDS)
        self._stream = self.socket.makefile("rb")

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        self.socket.sendall(request(method, path, body, **headers))

    def receive(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of the next answer."""
        line = self._stream.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        headers = {}
        while (head := self._stream.readline().strip()) != b"":
            name, _, value = head.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = self._stream.read(int(headers.get("content-length", "0")))
        return int(line.split()[1]), headers, body

    def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send JSON (or bytes) and read JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        self.send(method, path, data, **headers)
        status, _, answer = self.receive()
        return status, json.loads(answer)

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: slot", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer_body(values: Sequence[float], identifier: str = "", name: str = "x") -> dict[str, Any]:
    """An inference request of one batch element."""
    entry = {"name": name, "shape": [1, len(values)], "datatype": "FP32", "data": list(values)}
    return {"id": identifier, "inputs": [entry]}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def start_load(path: Path, *, model: str = "dense") -> "subprocess.Popen[str]":
    """A client process that keeps asking until its standard input closes (see ``load_client``)."""
    script = Path(__file__).with_name("load_client.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(path), model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end_load(load: "subprocess.Popen[str]") -> dict[str, Any]:
    """Tell the client to finish; what it counted."""
    output, _ = load.communicate("", timeout=WAIT_SECONDS)
    counted: dict[str, Any] = json.loads(output)
    return counted
