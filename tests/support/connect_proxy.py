"""A forward proxy for tests: CONNECT tunnels and plain requests, Basic or nothing, chosen ports."""

import base64
import contextlib
import socket
import socketserver
import threading
import urllib.parse
from collections.abc import Mapping
from types import TracebackType
from typing import Self

PIECE_BYTES = 64 * 1024
SECONDS = 60.0


class ConnectProxy:
    """Used as a context manager. ``targets`` lists what it let through, in order."""

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        schemes: tuple[str, ...] = ("Basic",),
        ports: frozenset[int] | None = None,
        names: Mapping[str, str] | None = None,
        wrong: int = 407,
    ) -> None:
        """``users`` with their passwords; None: everybody may. ``ports`` to which it connects;
        None: all. ``names`` is its own DNS, before the system's. ``wrong``: its answer to a wrong
        password.
        """
        self.targets: list[str] = []
        self.refused: list[int] = []
        self._users, self._schemes, self._ports = users, schemes, ports
        self._names = dict(names or {})
        self._wrong = wrong
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(self, client: socketserver.StreamRequestHandler) -> None:
        method, target, _ = client.rfile.readline(4096).decode("latin-1").split()
        headers = {}
        while line := client.rfile.readline(4096).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if not self._knows(headers.get("proxy-authorization", "")):
            offers = "".join(f"Proxy-Authenticate: {scheme}\r\n" for scheme in self._schemes)
            given = "proxy-authorization" in headers
            status = self._wrong if given else 407
            self._refuse(client, status, "Proxy Authentication Required", offers)
            return
        parts = urllib.parse.urlsplit(target if method != "CONNECT" else f"//{target}")
        host, port = parts.hostname or "", parts.port or 80
        if self._ports is not None and port not in self._ports:
            self._refuse(client, 403, "Forbidden")
            return
        try:
            upstream = socket.create_connection((self._names.get(host, host), port), SECONDS)
        except OSError:
            self._refuse(client, 503, "Service Unavailable")
            return
        self.targets.append(target)
        with upstream:
            if method == "CONNECT":
                client.wfile.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
            else:
                path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
                kept = {k: v for k, v in headers.items() if not k.startswith("proxy-")}
                kept["connection"] = "close"
                lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in kept.items())]
                upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self._join(client.connection, upstream)

    def _knows(self, authorization: str) -> bool:
        if self._users is None:
            return True
        scheme, _, pair = authorization.partition(" ")
        if scheme != "Basic":
            return False
        user, _, password = base64.b64decode(pair).decode().partition(":")
        return self._users.get(user) == password

    def _refuse(
        self, client: socketserver.StreamRequestHandler, status: int, reason: str, more: str = ""
    ) -> None:
        self.refused.append(status)
        head = f"HTTP/1.1 {status} {reason}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
        client.wfile.write(head.encode())

    def _join(self, client: socket.socket, upstream: socket.socket) -> None:
        up = threading.Thread(target=_copy, args=(client, upstream), daemon=True)
        up.start()
        _copy(upstream, client)
        up.join(SECONDS)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
