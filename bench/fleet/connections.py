"""Ten thousand TLS connections in one thread: epoll, non-blocking sockets, a heap of timers."""

import contextlib
import heapq
import random
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from bench.fleet import packets
from bench.fleet.device import Counts, Device, Timer
from bench.fleet.windows import Windows

from muster_protocol.wire import messages, topics
from muster_protocol.wire.limits import KEEPALIVE_SECONDS
from muster_protocol.wire.messages import Presence

HANDSHAKES_MAX = 200
"""Under way at once: a listener's backlog is bounded, and so is what real sites open at once."""
RECONNECT_SECONDS = (0.5, 5.0)
READ_BYTES = 1 << 16
EVENTS_MAX = 512
State = Literal["away", "connecting", "handshaking", "greeting", "up"]


@dataclass
class Link:
    """A device's connection: what is to be sent, what has come."""

    device: Device
    connection: socket.socket | None = None
    """The TCP connection, and from the handshake on the TLS connection over it."""
    state: State = "away"
    out: bytearray = field(default_factory=bytearray)
    come: bytearray = field(default_factory=bytearray)
    mid: int = 0
    was_up: bool = False


class Fleet:
    """``turn`` does what is due and waits for what comes, up to a while."""

    def __init__(
        self,
        host: str,
        port: int,
        ca: Path,
        files: Path,
        names: list[str],
        windows: Windows,
    ) -> None:
        self.counts = Counts()
        self.connects = self.losses = 0
        self._address = (host, port)
        self._files = files
        # One context for all: a connection takes the certificate that is loaded when it is made.
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.check_hostname = False
        self._poll = select.epoll()
        self._links: dict[int, Link] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._under_way = 0
        self._waiting: list[Link] = []
        self.links = [self._link(name, windows) for name in names]

    def _link(self, name: str, windows: Windows) -> Link:
        link: Link

        def publish(topic: str, payload: bytes, *, retain: bool = False) -> None:
            if link.state == "up":
                link.mid = link.mid % 65_535 + 1
                self._send(link, packets.publish(link.mid, topic, payload, retain=retain))

        def after(seconds: float, timer: Timer) -> None:
            self.after(seconds, lambda: link.device.woken(timer, time.monotonic()))

        link = Link(Device(name, publish, after, windows, self.counts))
        return link

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something done later."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), act))

    @property
    def up(self) -> int:
        return sum(1 for link in self.links if link.state == "up")

    def connect_all(self) -> None:
        self._waiting = [link for link in self.links if link.state == "away"]
        self._waiting.reverse()

    def begin_windows(self, window_seconds: float) -> None:
        for link in self.links:
            link.device.begin_windows(window_seconds)

    def begin_drift(self, share: float) -> None:
        """From now on the windows of the first so many devices drift, and of no others."""
        for number, link in enumerate(self.links):
            link.device.drifts = number < share * len(self.links)

    def turn(self, seconds: float) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        while self._waiting and self._under_way < HANDSHAKES_MAX:
            self._open(self._waiting.pop())
        until = self._timers[0][0] - now if self._timers else seconds
        for number, event in self._poll.poll(max(min(until, seconds), 0.0), EVENTS_MAX):
            link = self._links.get(number)
            if link is None:
                continue
            try:
                self._progress(link, event)
            except (OSError, ValueError):
                self._lost(link)

    def close(self) -> None:
        for link in self.links:
            if link.connection is not None:
                link.connection.close()

    def _open(self, link: Link) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.settimeout(0.0)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            raw.connect(self._address)
        link.connection, link.state, link.mid = raw, "connecting", 0
        link.out, link.come = bytearray(), bytearray()
        self._links[raw.fileno()] = link
        self._poll.register(raw.fileno(), select.EPOLLOUT)
        self._under_way += 1

    def _wrapped(self, link: Link) -> ssl.SSLSocket:
        assert link.connection is not None
        if fault := link.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(fault, "not connected")
        self._context.load_cert_chain(self._files / f"{link.device.name}.pem")
        return self._context.wrap_socket(
            link.connection, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def _progress(self, link: Link, event: int) -> None:
        assert link.connection is not None
        if link.state == "connecting":
            # Not sooner: ssl takes a connection that comes about while it is wrapped for a fault.
            link.connection = self._wrapped(link)
            link.state = "handshaking"
        if link.state == "handshaking":
            assert isinstance(link.connection, ssl.SSLSocket)
            try:
                link.connection.do_handshake()
            except ssl.SSLWantReadError:
                self._poll.modify(link.connection.fileno(), select.EPOLLIN)
                return
            except ssl.SSLWantWriteError:
                self._poll.modify(link.connection.fileno(), select.EPOLLOUT)
                return
            link.state = "greeting"
            name = link.device.name
            will = messages.encode(Presence(online=False))
            self._poll.modify(link.connection.fileno(), select.EPOLLIN)
            self._send(
                link, packets.connect(name, topics.up(name, "presence"), will, KEEPALIVE_SECONDS)
            )
            return
        if link.out and event & select.EPOLLOUT:
            self._flush(link)
        if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(link)

    def _receive(self, link: Link) -> None:
        assert link.connection is not None
        while True:
            try:
                data = link.connection.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not data:
                raise ConnectionResetError
            link.come += data
        for packet in packets.read(link.come):
            self._take(link, packet)

    def _take(self, link: Link, packet: packets.Packet) -> None:
        name, now = link.device.name, time.monotonic()
        if packet.kind == packets.CONNACK:
            if packet.reason:
                raise ValueError(packet.reason)
            own = [topics.down(name, leaf) for leaf in ("directive", "ack", "grant")]
            self._send(link, packets.subscribe(1, own))
        elif packet.kind == packets.SUBACK:
            link.state, link.mid = "up", 1
            self._under_way -= 1
            self.connects += 1
            link.device.connected(now, again=link.was_up)
            if not link.was_up:
                self.after(KEEPALIVE_SECONDS * random.uniform(0.4, 0.6), lambda: self._ping(link))
            link.was_up = True
        elif packet.kind == packets.PUBLISH:
            if packet.mid:
                self._send(link, packets.puback(packet.mid))
            link.device.heard(packet.topic, packet.payload, now)
        elif packet.kind == packets.DISCONNECT:
            raise ValueError(packet.reason)

    def _ping(self, link: Link) -> None:
        if link.state == "up":
            self._send(link, packets.PING)
        self.after(KEEPALIVE_SECONDS * random.uniform(0.4, 0.6), lambda: self._ping(link))

    def _send(self, link: Link, data: bytes) -> None:
        link.out += data
        try:
            self._flush(link)
        except OSError:
            self._lost(link)

    def _flush(self, link: Link) -> None:
        if link.connection is None:
            return
        while link.out:
            try:
                sent = link.connection.send(link.out)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._poll.modify(link.connection.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            del link.out[:sent]
        self._poll.modify(link.connection.fileno(), select.EPOLLIN)

    def _lost(self, link: Link) -> None:
        if link.connection is None:
            return
        if link.state != "up":
            self._under_way -= 1
        else:
            self.losses += 1
        number = link.connection.fileno()
        self._links.pop(number, None)
        with contextlib.suppress(OSError):
            self._poll.unregister(number)
        link.connection.close()
        link.connection, link.state = None, "away"
        self.after(random.uniform(*RECONNECT_SECONDS), lambda: self._waiting.append(link))
