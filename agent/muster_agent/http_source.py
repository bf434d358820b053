"""Chunks over HTTPS: one thread, a bounded queue, one kept connection a source.

A thin shell: every request put in is answered once through ``deliver``, with bytes or a reason.
Certificates are checked against the hub's CA only, by trusted time.
"""

import http.client
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from muster_agent import drip, tls
from muster_agent.trusted_time import Instant
from muster_protocol.directive import Source
from muster_protocol.errors import MusterError
from muster_protocol.limits import MANIFEST_BYTES_MAX

REQUESTS_MAX = 32
TIMEOUT_SECONDS = 20.0
"""For one read; a whole answer is bounded by its least rate."""
_CLOSE = None


@dataclass(frozen=True)
class HttpAnswer:
    """The end of one request: ``data``, or None and the reason in ``detail``."""

    source: int
    digest: str
    data: bytes | None
    detail: str = ""


class HttpSource:
    """Fetches ``<url>/<sha256>`` with the source's bearer token."""

    def __init__(
        self,
        ca_file: Path,
        deliver: Callable[[HttpAnswer], None],
        now: Callable[[], Instant],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``now`` is trusted time; ``deliver`` is called on this object's own thread."""
        self._monotonic = monotonic
        self._ca_file = ca_file
        self._now = now
        self._deliver = deliver
        self._queue: queue.Queue[tuple[int, Source, str] | None] = queue.Queue(REQUESTS_MAX)
        self._thread = threading.Thread(target=self._run, name="http-source", daemon=True)
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        try:
            self._queue.put_nowait(_CLOSE)
        except queue.Full:
            return  # The thread is a daemon; it ends with the process.
        self._thread.join(timeout=2.0)

    def get(self, number: int, source: Source, digest: str) -> None:
        """Ask; when too much is asked already the answer is an immediate refusal."""
        try:
            self._queue.put_nowait((number, source, digest))
        except queue.Full:
            self._deliver(HttpAnswer(number, digest, None, "too many requests are waiting"))

    def _run(self) -> None:
        while (request := self._queue.get()) is not _CLOSE:
            number, source, digest = request
            try:
                data = self._fetch(source, digest)
            except (OSError, http.client.HTTPException, ValueError, MusterError) as error:
                self._forget(source)
                reason = f"{source.url}: {str(error) or type(error).__name__}"
                self._deliver(HttpAnswer(number, digest, None, reason))
            else:
                self._deliver(HttpAnswer(number, digest, data))
        for connection in self._connections.values():
            connection.close()

    def _fetch(self, source: Source, digest: str) -> bytes:
        if source.url in self._connections:
            try:
                return self._request(source, digest)
            except (ConnectionError, http.client.RemoteDisconnected):
                self._forget(source)  # A kept connection that the server has closed meanwhile.
        return self._request(source, digest)

    def _request(self, source: Source, digest: str) -> bytes:
        parts = urlsplit(source.url)
        connection = self._connections.get(source.url)
        if connection is None:
            connection = self._connect(parts.scheme, parts.hostname or "", parts.port)
            self._connections[source.url] = connection
        headers = {"Authorization": f"Bearer {source.token}"} if source.token else {}
        connection.request("GET", f"{parts.path.rstrip('/')}/{digest}", headers=headers)
        response = connection.getresponse()
        data = drip.read(response, MANIFEST_BYTES_MAX, self._monotonic)
        if len(data) <= MANIFEST_BYTES_MAX:
            response.read()  # Nothing is left; it tells http.client that the answer has ended.
        if response.status != http.client.OK:
            self._forget(source)
            raise ValueError(f"answered {response.status} {response.reason}")
        if len(data) > MANIFEST_BYTES_MAX:
            raise ValueError(f"sent more than {MANIFEST_BYTES_MAX} bytes for one chunk")
        return data

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        context = tls.context(self._ca_file)
        connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_SECONDS, context=context
        )
        try:
            connection.connect()
            tls.check_peer(connection.sock, context, self._now(), host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _forget(self, source: Source) -> None:
        connection = self._connections.pop(source.url, None)
        if connection is not None:
            connection.close()
