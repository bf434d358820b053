"""The hub's half of enrolment over real HTTPS, in a thread; tests set what it answers."""

import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from muster_protocol.wire.addresses import joined
from support.pki import Authority


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class EnrolHub:
    """Used as a context manager. ``requests`` holds the bodies of POST /enroll."""

    def __init__(
        self, directory: Path, authority: Authority, root: bytes, host: str = "127.0.0.1"
    ) -> None:
        self.authority = authority
        self.root = root
        self.device = "dev-1"
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.changes: dict[str, Any] = {}
        self.offered_ca: bytes | None = None
        self.hang_up = 0
        self.requests: list[dict[str, Any]] = []
        server = authority.issue("hub", hosts=(host,))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.cert, server.key)
        self._server = _Server((host, 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"https://{joined(host, self._server.server_address[1])}"
        self.token = f"t1.secret.{authority.fingerprint()}"

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

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append(body)
        if self.refusal is not None:
            return self.refusal
        reply = {
            "device": self.device,
            "certificate_pem": self.authority.sign_csr(body["csr_pem"], self.device),
            "ca_pem": self.authority.cert.read_text(),
            "broker": {"host": "broker.example", "port": 8883},
        }
        return 200, reply | self.changes

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ca = hub.offered_ca or hub.authority.cert.read_bytes()
                found = {"/api/v1/ca": ca, "/api/v1/root": hub.root}.get(self.path)
                self._send(200 if found else 404, found or b"")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = hub.answer(body)
                if hub.hang_up:
                    hub.hang_up -= 1
                    self.close_connection = True
                    return
                self._send(status, json.dumps(reply).encode())

            def _send(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
