"""Chunks over HTTPS: one thread, a bounded queue, one kept connection a source.

A thin shell: every chunk asked for is answered once through ``deliver``, with bytes or a reason,
unless ``cancel`` came first. A chunk of a range that breaks off is kept as far as it came, and the
next range begins there: a link that comes and goes pays for each byte once. Certificates are
checked against the hub's CA only, by trusted time.
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
from muster_agent.base.proxy import DIRECT, Proxies
from muster_agent.fetch.actions import ChunkRun
from muster_agent.identity import tls
from muster_agent.identity.https import HttpsConnection
from muster_agent.trust.time import Instant
from muster_protocol.wire.directive import Source
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.limits import MANIFEST_BYTES_MAX

REQUESTS_MAX = 32
_PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 20.0
TIMEOUT_SECONDS = 45.0
"""For one read, of a TLS record at least; a whole answer is bounded by its least rate."""
BYTES_PER_SECOND_MIN = 128
"""Of a chunk. There are other sources than one that drips, but a link may be as slow as this."""
PASSING_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
"""What a source answers that may have the chunk, only not now."""
_CLOSE = None


class _Answered(ValueError):
    """The source's word that it has no such chunk."""


class _NotNow(OSError):
    """The source's word that it may have it later."""


class _Unserved(_Answered):
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
    unreached: bool = False
    """The source did not answer, or broke off: nothing is known of what it has."""


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
        *,
        proxies: Proxies = DIRECT,
    ) -> None:
        """``now`` is trusted time; ``deliver`` is called on this object's own thread."""
        self._proxies = proxies
        self._monotonic = monotonic
        self._ca_file = ca_file
        self._now = now
        self._deliver = deliver
        self._queue: queue.Queue[_Request | None] = queue.Queue(REQUESTS_MAX)
        self._turn = 0
        self._thread = threading.Thread(target=self._run, name="http-source", daemon=True)
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._received = 0
        self._part = ("", bytearray())
        """The chunk that the last range broke off in, and what came of it."""

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

    def received_bytes(self) -> int:
        """Bytes of chunks that have come so far, whole or not."""
        return self._received

    def _refuse(self, request: _Request, digests: tuple[str, ...], why: str) -> None:
        """It was not even asked."""
        for digest in digests:
            self._deliver(HttpAnswer(request.number, digest, None, why, unreached=True))

    def _run(self) -> None:
        while (request := self._queue.get()) is not _CLOSE:
            left = list(request.digests)
            try:
                for digest, data in self._fetch(request):
                    left.remove(digest)
                    self._deliver(HttpAnswer(request.number, digest, data))
            except (OSError, http.client.HTTPException, ValueError, MusterError) as error:
                self._forget(request.source)
                why = f"{request.source.url}: {str(error) or type(error).__name__}"
                unserved = isinstance(error, _Unserved)
                unreached = not isinstance(error, _Answered)
                for digest in left:
                    self._deliver(
                        HttpAnswer(request.number, digest, None, why, unserved, unreached)
                    )
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
        part = self._begun(run)
        first, last = run.offset + len(part), run.offset + run.size_bytes - 1
        asked = {"Range": f"bytes={first}-{last}"}
        response = self._ask(request.source, f"files/{run.file}", asked)
        if response.status != http.client.PARTIAL_CONTENT:
            raise _Unserved(f"answered {response.status} {response.reason} to a range")
        sent = response.getheader("Content-Range", "")
        if not sent.startswith(f"bytes {first}-{last}/"):
            raise _Unserved(f"answered with {sent[:64]!r} to {asked['Range']}")
        for digest, size in zip(run.digests, run.sizes, strict=True):
            if request.turn != self._turn:
                self._forget(request.source)  # What is still under way would only be thrown away.
                return
            self._part = (digest, part)
            self._read(response, part, size)
            if len(part) < size:
                raise ValueError(f"ended {size - len(part)} bytes too early")
            self._part = ("", bytearray())
            yield digest, bytes(part)
            part = bytearray()
        response.read()  # Nothing is left; it tells http.client that the answer has ended.

    def _begun(self, run: ChunkRun) -> bytearray:
        """What is here already of the first chunk of a range."""
        digest, part = self._part
        if digest == run.digests[0] and len(part) < run.sizes[0]:
            return part
        return bytearray()

    def _read(self, response: http.client.HTTPResponse, data: bytearray, size: int) -> None:
        """Read until there are ``size`` bytes, or no more come; what came is in ``data``."""
        missing = size - len(data)
        for piece in drip.pieces(response, missing, self._monotonic, BYTES_PER_SECOND_MIN):
            data += piece
            self._received += len(piece)

    def _chunk(self, source: Source, digest: str) -> bytes:
        response = self._ask(source, digest, {})
        data = bytearray()
        self._read(response, data, MANIFEST_BYTES_MAX + 1)
        if len(data) <= MANIFEST_BYTES_MAX:
            response.read()
        if response.status != http.client.OK:
            raise _Answered(f"answered {response.status} {response.reason}")
        if len(data) > MANIFEST_BYTES_MAX:
            raise _Answered(f"sent more than {MANIFEST_BYTES_MAX} bytes for one chunk")
        return bytes(data)

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
        # Without a port http.client would take the end of an IPv6 address for one.
        port = parts.port or _PORTS[parts.scheme]
        if connection is None:
            connection = self._connect(parts.scheme, parts.hostname or "", port)
            self._connections[source.url] = connection
        if source.token:
            headers = headers | {"Authorization": f"Bearer {source.token}"}
        path = f"{parts.path.rstrip('/')}/{name}"
        if parts.scheme == "http" and (proxy := self._proxies.way(parts.hostname or "", port)):
            # A proxy is asked for plain HTTP as such; many let CONNECT to no port but 443.
            path = f"http://{parts.netloc}{path}"
            if authorization := proxy.authorization():
                headers = headers | {"Proxy-Authorization": authorization}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status in PASSING_STATUSES:
            raise _NotNow(f"answered {response.status} {response.reason}")
        return response

    def _connect(self, scheme: str, host: str, port: int) -> http.client.HTTPConnection:
        if scheme != "https":
            return self._connect_plainly(host, port)
        connection = HttpsConnection(
            host,
            port,
            tls.context(self._ca_file),
            self._proxies,
            self._now,
            what=host,
            connect_seconds=CONNECT_SECONDS,
            read_seconds=TIMEOUT_SECONDS,
        )
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_plainly(self, host: str, port: int) -> http.client.HTTPConnection:
        proxy = self._proxies.way(host, port)
        near = (host, port) if proxy is None else (proxy.host, proxy.port)
        connection = http.client.HTTPConnection(*near, timeout=CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(TIMEOUT_SECONDS)
        return connection

    def _forget(self, source: Source) -> None:
        connection = self._connections.pop(source.url, None)
        if connection is not None:
            connection.close()
