"""The hub's publisher, a process of its own: ``update_hub.py DIRECTORY UNIX_SOCKET PASSWORD FILE``.

Cuts FILE into chunks. Told ``go N`` it makes them live, decides a directive for each of N devices,
and publishes until the broker has everything; told to end (its input closes) it prints what that
cost: {"cpu_seconds", "chunks_read"}.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from muster_hub.mqtt.broker_config import HUB_USER
from muster_hub.mqtt.client import BrokerAddress
from muster_hub.mqtt.publisher import Publisher
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_protocol.wire import topics
from muster_protocol.wire.limits import CHUNK_BYTES
from support.hub_store import open_store

DIRECTIVE_BYTES = 2048
"""About what a signed directive with one slot takes."""


class NoFiles:
    def files_to_publish(self) -> Mapping[str, bytes]:
        return {}


class Bundle:
    """Chunks from real blobs, live once ``names`` has them."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.names: dict[str, int] = {}
        self.reads = 0

    def live(self) -> list[Mapping[str, int]]:
        return [dict(self.names)]

    def of_directive(self, device: str) -> Collection[str]:  # noqa: ARG002  # the protocol's
        return self.names.keys()

    def read(self, sha256: str) -> bytes:
        self.reads += 1
        return self._blobs.read(sha256)


def main() -> None:
    directory, unix, password, file = sys.argv[1:]
    store = open_store(Path(directory))
    blobs = Blobs(Path(directory) / "blobs")
    data = Path(file).read_bytes()
    pieces = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    cut = {blobs.put(piece): len(piece) for piece in pieces}
    chunks = Bundle(blobs)
    address = BrokerAddress(host="", unix=Path(unix), user=HUB_USER, password=password)
    publisher = Publisher(store, address, NoFiles(), chunks, save=lambda: None)
    publisher.start()
    while not publisher.connected:
        time.sleep(0.01)  # the publisher connects in its thread
    print(json.dumps({"chunks": list(cut), "threads": threading.active_count()}), flush=True)
    before = os.times()
    for line in sys.stdin:
        chunks.names = cut
        with store.write() as session:
            for number in range(int(line.split()[1])):
                topic = topics.down(f"dev-{number}", "directive")
                payload = os.urandom(DIRECTIVE_BYTES)
                message = models.OutboxMessage(topic=topic, payload=payload, retain=True, created=0)
                session.add(message)
        publisher.wake()
    after = os.times()
    publisher.stop()
    store.close()
    spent = after.user + after.system - before.user - before.system
    print(json.dumps({"cpu_seconds": round(spent, 3), "chunks_read": chunks.reads}))


if __name__ == "__main__":
    main()
