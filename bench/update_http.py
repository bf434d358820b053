"""Chunks from the hub's API over HTTPS: by their names one by one, and in ranges of a file.

The hub is a process of its own: ``update_http.py DIRECTORY FILE`` makes one, prints what a device
must know of it, and serves until its input closes; then it prints the requests it has answered.
"""

import contextlib
import functools
import http.client
import json
import os
import queue
import random
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import msgspec
import uvicorn
from bench import update_disk

from muster_agent.fetch import actions as f
from muster_agent.fetch.http_source import HttpAnswer, HttpSource
from muster_agent.fetch.window import SILENCES_BEFORE_HTTP, Fetch
from muster_agent.trust.time import Instant
from muster_hub.api.app import create_app
from muster_hub.api.hub import Hub
from muster_hub.app.initialise import NewHub, initialise
from muster_hub.registry.bundle import Pieces, pack
from muster_hub.settings.config import BrokerSettings, Http, load
from muster_hub.storage.models import Device, DirectiveRow
from muster_protocol.wire import directive, manifest
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.directive import Source
from muster_protocol.wire.limits import CHUNK_BYTES, FETCH_WINDOW_CHUNKS, MIB

ROUNDS = 3
DEVICE = "dev-0"
WAYS = ("ranges", "ranges_unstored", "one_by_one", "one_by_one_unstored", "one_get")


class Counted:
    """An ASGI application that counts its requests."""

    def __init__(self, app: Any) -> None:
        self.app, self.requests = app, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += scope["type"] == "http"
        await self.app(scope, receive, send)


def main() -> None:
    directory, file = map(Path, sys.argv[1:])
    initialise(directory, NewHub(("127.0.0.1",), Http(), BrokerSettings()))
    plenty = Http(reads_per_second=1e6, strangers_per_second=1e6)
    hub = Hub.open(msgspec.structs.replace(load(directory), http=plenty), time.time)
    (golden := directory / "golden.npz").write_bytes(b"golden")
    packed = pack(
        {"m.onnx": file, "golden.npz": golden}, hub.blobs.put, model="m", version="1", created=0,
        inputs=(manifest.Tensor("x", "FP32", (-1, 1)),),
        outputs=(manifest.Tensor("y", "FP32", (-1, 1)),),
        builds=(manifest.Build("onnx", "m.onnx", MIB),), golden=manifest.Golden("golden.npz"),
    )  # fmt: skip
    entry = manifest.decode(packed).file("m.onnx")
    goal = directive.Goal("m", "1", sha256_hex(packed), len(packed))
    wanted = directive.Directive(
        device=DEVICE, epoch=1, generation=1, issued=0, expires=1,
        slots={"main": directive.Slot(goal)},
    )  # fmt: skip
    with hub.store.write() as session:
        session.add(Device(id=DEVICE, created=1))
        session.flush()
        session.add(
            DirectiveRow(
                device=DEVICE, generation=1, epoch=1, issued=0, expires=1, envelope=b"",
                payload=directive.encode(wanted), content_sha256="",
            )
        )  # fmt: skip
    certificate, key = hub.server_certificate()
    (ca := directory / "bench-ca.pem").write_bytes(hub.pki.ca_pem)
    counted = Counted(create_app(hub))
    config = uvicorn.Config(
        counted, port=0, log_level="critical", ssl_certfile=str(certificate), ssl_keyfile=str(key),
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)  # uvicorn starts in its thread
    print(json.dumps({
        "port": server.servers[0].sockets[0].getsockname()[1], "ca": str(ca), "file": entry.sha256,
        "token": hub.chunk_token(DEVICE, int(time.time()) + 3600),
        "names": Pieces(entry, hub.blobs.read).names, "size": entry.size_bytes,
    }), flush=True)  # fmt: skip
    for _ in sys.stdin:
        print(counted.requests, flush=True)
    server.should_exit = True
    thread.join()
    hub.store.close()


def measure(megabytes: int, started: Any) -> dict[str, Any]:
    """``started`` begins one of our scripts as a process."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    requests: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        file = Path(name) / "file"
        file.write_bytes(random.Random(1).randbytes(megabytes << 20))
        with running(started, Path(name) / "hub", file) as (hub, server):
            ways = {
                "ranges": functools.partial(fetch, server, places(server)),
                "ranges_unstored": functools.partial(fetch, server, places(server), stored=False),
                "one_by_one": functools.partial(fetch, server, {}),
                "one_by_one_unstored": functools.partial(fetch, server, {}, stored=False),
                "one_get": functools.partial(one_get, server),
            }
            for number in range(ROUNDS):
                for way in WAYS[number:] + WAYS[:number]:
                    before = count(hub)
                    seconds[way].append(ways[way]())
                    requests[way] = count(hub) - before
    speed = {way: round(megabytes / sorted(each)[ROUNDS // 2], 1) for way, each in seconds.items()}
    return {
        "megabytes": megabytes, "rounds": ROUNDS, "mib_per_second": speed, "requests": requests,
        "seconds": {way: [round(item, 2) for item in each] for way, each in seconds.items()},
    }  # fmt: skip


@contextlib.contextmanager
def running(started: Any, directory: Path, file: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    hub = started("update_http.py", directory, file)
    try:
        yield hub, json.loads(hub.stdout.readline())
        hub.communicate(timeout=30)
    finally:
        hub.kill()
        hub.wait()


def count(hub: Any) -> int:
    hub.stdin.write("\n")
    hub.stdin.flush()
    return int(hub.stdout.readline())


def places(server: dict[str, Any]) -> dict[str, f.Place]:
    size = server["size"]
    return {
        name: f.Place(server["file"], at * CHUNK_BYTES, min(CHUNK_BYTES, size - at * CHUNK_BYTES))
        for at, name in enumerate(server["names"])
    }


def fetch(server: dict[str, Any], places: dict[str, f.Place], *, stored: bool = True) -> float:
    """An agent's policy, verification and store over its own HTTP source; seconds it takes."""
    answers: queue.Queue[HttpAnswer] = queue.Queue()
    source = HttpSource(
        Path(server["ca"]), answers.put, lambda: Instant(int(time.time()), "synchronised")
    )
    url = f"https://127.0.0.1:{server['port']}/api/v1/chunks"
    place = Source(url, server["token"])
    fetch = Fetch(
        window=FETCH_WINDOW_CHUNKS, silence_seconds=1.0, http_sources=1, rng=random.Random(1)
    )
    fetch.link_up(0.0)
    fetch.need(server["names"][:1], 0.0)
    for _ in range(SILENCES_BEFORE_HTTP):  # From here on HTTP comes first.
        fetch.subscribed(server["names"][:1], 0.0)
        actions = fetch.tick(fetch.deadline())
    with tempfile.TemporaryDirectory(prefix="mu") as name:
        store = update_disk.Kept(Path(name)) if stored else None
        source.start()
        begun = time.monotonic()
        actions += fetch.need(server["names"], begun, places)
        while actions or not fetch.done:
            for action in actions:
                match action:
                    case f.HttpGet(number, digest):
                        source.get(number, place, digest)
                    case f.HttpRange(number, run):
                        source.get_range(number, place, run)
                    case f.Keep(digest, data) if store is not None:
                        store.put(digest, data)
                    case f.Keep() | f.Unsubscribe():
                        pass
                    case _:
                        raise AssertionError(action)
            if fetch.done:
                break
            got = answers.get(timeout=60)
            actions = fetch.answered(got.source, got.digest, got.data, got.detail, time.monotonic())
        if store is not None:
            store.end()
        seconds = time.monotonic() - begun
        source.stop()
    return seconds


def one_get(server: dict[str, Any]) -> float:
    """The whole file in one answer, to one file, synced at the end; nothing is verified."""
    context = ssl.create_default_context(cafile=server["ca"])
    connection = http.client.HTTPSConnection("127.0.0.1", server["port"], context=context)
    headers = {"Authorization": f"Bearer {server['token']}"}
    begun = time.monotonic()
    connection.request("GET", f"/api/v1/chunks/files/{server['file']}", headers=headers)
    answer = connection.getresponse()
    with tempfile.TemporaryFile() as out:
        while data := answer.read(CHUNK_BYTES):
            out.write(data)
        assert out.tell() == server["size"]
        out.flush()
        os.fsync(out.fileno())
    seconds = time.monotonic() - begun
    connection.close()
    return seconds


if __name__ == "__main__":
    main()
