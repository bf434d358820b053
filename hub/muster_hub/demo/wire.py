"""A device's line to the broker, in the demo's hands: it counts bytes and can be cut.

Cutting ends every connection and refuses new ones, until the line is restored. What passes is
encrypted between device and broker; only its volume is known here.
"""

import contextlib
import socket
import threading

CHUNK_BYTES = 64 * 1024
BACKLOG = 8


class Wire:
    """Forwards TCP connections from a port of its own to the broker's."""

    def __init__(self, name: str, upstream: tuple[str, int]) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self._upstream = upstream
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"wire-{name}", daemon=True).start()

    @property
    def is_cut(self) -> bool:
        """Whether the cable is pulled."""
        return self._cut

    def cut(self) -> None:
        """Pull the cable: connections end and none is let through."""
        with self._lock:
            self._cut = True
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Plug it in again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """End the thread and every connection."""
        self.cut()
        # Closing alone would leave the accepting thread waiting in the kernel.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                device.close()
                continue
            broker.settimeout(None)
            for end in (device, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._cut:
                    device.close()
                    broker.close()
                    continue
                self._connections |= {device, broker}
            self._pump(device, broker)

    def _pump(self, device: socket.socket, broker: socket.socket) -> None:
        up = threading.Thread(target=self._copy, args=(device, broker, True), daemon=True)
        down = threading.Thread(target=self._copy, args=(broker, device, False), daemon=True)
        up.start()
        down.start()

        def release() -> None:
            up.join()
            down.join()
            with self._lock:
                self._connections -= {device, broker}
            device.close()
            broker.close()

        threading.Thread(target=release, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, upward: bool) -> None:  # noqa: FBT001 - private
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if upward:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
