"""A worker's server in a thread of the test, with a clock that the test moves."""

import os
import threading
from pathlib import Path
from typing import Any

from muster_agent.worker.serving import Server
from muster_agent.worker.slot_socket import open_listeners
from support.workers import WAIT_SECONDS, Client


class Serving:
    def __init__(self, directory: Path, app: Any, *, request_seconds: float = 30.0) -> None:
        self.sockets = open_listeners(directory / "slot.sock", 0)
        self.now = 1000.0
        self.drained = threading.Event()
        self.server = Server(
            app,
            self.sockets.listeners,
            request_seconds=request_seconds,
            on_drained=self.drained.set,
            monotonic=lambda: self.now,
        )
        self._orders: list[Any] = []
        self._obeyed = threading.Event()
        self._read, self._write = os.pipe()
        self.server.watch(self._read, self._obey)
        self.server.accept()
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def _obey(self) -> None:
        os.read(self._read, 1)
        self._orders.pop(0)()
        self._obeyed.set()

    def order(self, call: Any) -> None:
        """Have the server's thread call this, and wait until it has."""
        self._obeyed.clear()
        self._orders.append(call)
        os.write(self._write, b"\0")
        assert self._obeyed.wait(WAIT_SECONDS)

    def client(self) -> Client:
        return Client(self.sockets.path)

    def close(self) -> None:
        self.order(self.server.stop)
        self.thread.join()
        self.sockets.close()
        os.close(self._read)
        os.close(self._write)
