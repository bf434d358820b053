"""Chunks over HTTPS: one thread, a bounded queue, one kept connection a source.

A thin shell: every chunk asked for is answered once through ``deliver``, with bytes or a reason,
unless ``cancel`` came first. Certificates are checked against the hub's CA only, by trusted time.
"""

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from muster_agent.base import drip
from muster_agent.fetch.window import ChunkRun
from muster_agent.identity import tls
from muster_agent.trust.time import Instant
from muster_protocol.wire.directive import Source
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import MANIFEST_BYTES_MAX

REQUESTS_MAX = 32
_PORTS = {"http": 80, "https": 443}
TIMEOUT_SECONDS = 20.0
"""For one read; a whole answer is bounded by its least rate."""
_CLOSE = None


class _Unserved(ValueError):
    """The source answers, but not with the range."""


@dataclass(frozen=True)
class HttpAnswer:
    """One chunk: ``data``, or None and the reason in ``detail``."""

    source: int
    digest: str
    data: bytes | None
    detail: str = ""
    unserved: bool = False
    """The source answers, but not with ranges of this file: it may have the chunk by its name."""


@dataclass(frozen=True)
class _Request:
    number: int
    source: Source
    wanted: str | ChunkRun
    turn: int

    @property
    def digests(self) -> tuple[str, ...]:
        return (self.wanted,) if isinstance(self.wanted, str) else self.wanted.digests


class HttpSource:
    """Fetches ``<url>/<sha256>`` and ranges of ``<url>/files/<sha256>`` with the source's token."""

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
        self._queue: queue.Queue[_Request | None] = queue.Queue(REQUESTS_MAX)
        self._turn = 0
        self._thread = threading.Thread(target=self._run, name="http-source", daemon=True)
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def start(self) -> None:
        """Begin to answer requests, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not answered is dropped."""
        try:
            self._queue.put_nowait(_CLOSE)
        except queue.Full:
            return  # The thread is a daemon; it ends with the process.
        self._thread.join(timeout=2.0)

    def get(self, number: int, source: Source, digest: str) -> None:
        """Ask; when too much is asked already the answer is an immediate refusal."""
        self._put(_Request(number, source, digest, self._turn))

    def get_range(self, number: int, source: Source, run: ChunkRun) -> None:
        """Ask for several chunks in one request; each is answered as it comes."""
        self._put(_Request(number, source, run, self._turn))

    def cancel(self) -> None:
        """What was asked for and hasn't come isn't wanted any more."""
        self._turn += 1

    def _put(self, request: _Request) -> None:
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            self._refuse(request, request.digests, "too many requests are waiting")

    def _refuse(
        self, request: _Request, digests: tuple[str, ...], why: str, *, unserved: bool = False
    ) -> None:
        for digest in digests:
            self._deliver(HttpAnswer(request.number, digest, None, why, unserved))

    def _run(self) -> None:
        while (request := self._queue.get()) is not _CLOSE:
            left = list(request.digests)
            unserved = False
            try:
                for digest, data in self._fetch(request):
                    left.remove(digest)
                    self._deliver(HttpAnswer(request.number, digest, data))
            except (OSError, http.client.HTTPException, ValueError, MusterError) as error:
                self._forget(request.source)
                why = f"{request.source.url}: {str(error) or type(error).__name__}"
                unserved = isinstance(error, _Unserved)
                self._refuse(request, tuple(left), why, unserved=unserved)
        for connection in self._connections.values():
            connection.close()

    def _fetch(self, request: _Request) -> Iterator[tuple[str, bytes]]:
        """The chunks as they come; fewer when they are not wanted any more."""
        if request.turn != self._turn:
            return
        if isinstance(request.wanted, str):
            yield request.wanted, self._chunk(request.source, request.wanted)
            return
        run = request.wanted
        last = run.offset + run.size_bytes - 1
        asked = {"Range": f"bytes={run.offset}-{last}"}
        response = self._ask(request.source, f"files/{run.file}", asked)
        if response.status != http.client.PARTIAL_CONTENT:
            raise _Unserved(f"answered {response.status} {response.reason} to a range")
        sent = response.getheader("Content-Range", "")
        if not sent.startswith(f"bytes {run.offset}-{last}/"):
            raise _Unserved(f"answered with {sent[:64]!r} to {asked['Range']}")
        for digest, size in zip(run.digests, run.sizes, strict=True):
            if request.turn != self._turn:
                self._forget(request.source)  # What is still under way would only be thrown away.
                return
            data = drip.part(response, size, self._monotonic)
            if len(data) < size:
                raise ValueError(f"ended {size - len(data)} bytes too early")
            yield digest, data
        response.read()  # Nothing is left; it tells http.client that the answer has ended.

    def _chunk(self, source: Source, digest: str) -> bytes:
        response = self._ask(source, digest, {})
        data = drip.read(response, MANIFEST_BYTES_MAX, self._monotonic)
        if len(data) <= MANIFEST_BYTES_MAX:
            response.read()
        if response.status != http.client.OK:
            raise ValueError(f"answered {response.status} {response.reason}")
        if len(data) > MANIFEST_BYTES_MAX:
            raise ValueError(f"sent more than {MANIFEST_BYTES_MAX} bytes for one chunk")
        return data

    def _ask(self, source: Source, name: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        if source.url in self._connections:
            try:
                return self._request(source, name, headers)
            except (ConnectionError, http.client.RemoteDisconnected):
                self._forget(source)  # A kept connection that the server has closed meanwhile.
        return self._request(source, name, headers)

    def _request(
        self, source: Source, name: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        parts = urlsplit(source.url)
        connection = self._connections.get(source.url)
        if connection is None:
            # Without a port http.client would take the end of an IPv6 address for one.
            port = parts.port or _PORTS[parts.scheme]
            connection = self._connect(parts.scheme, parts.hostname or "", port)
            self._connections[source.url] = connection
        if source.token:
            headers = headers | {"Authorization": f"Bearer {source.token}"}
        connection.request("GET", f"{parts.path.rstrip('/')}/{name}", headers=headers)
        return connection.getresponse()

    def _connect(self, scheme: str, host: str, port: int) -> http.client.HTTPConnection:
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
