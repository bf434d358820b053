"""One thread, one epoll: the worker's HTTP server on the slot's shared listening sockets.

Pausing never closes a connection that a client may still use: each is handed, with the bytes not
yet answered, to the worker that accepts next (see ``slot_socket``). Only where that is impossible
is a connection closed after its next answer, which says so.
"""

import contextlib
import errno
import logging
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import assert_never

import msgspec

from muster_agent.worker import handover, patience
from muster_agent.worker.connection import Connection
from muster_agent.worker.http1 import (
    BODY_BYTES_MAX,
    CONTINUE,
    HEAD_BYTES_MAX,
    HttpError,
    Request,
    Response,
    compressed,
    decoded,
    encode,
)

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 128
TAKEN_OVER_MAX = 192
"""With those that another worker hands over, which may come when some are here already."""
HELD_REQUESTS_MAX = 2
"""Of the largest: so much of requests not answered and of answers not taken, over all connections.
"""
RECEIVE_BYTES = 256 * 1024
RECEIVES_MAX = 8
"""In one turn of a connection."""
OUT_BYTES_MAX = 1024 * 1024
"""A client that doesn't read its answers is not asked for more requests beyond this."""
TICK_SECONDS = 0.25
LOOK_SECONDS = 100e-6
"""A client that asks again at once is answered without a sleep and a waking in between."""
LOOK_AGAIN_REQUESTS = 64
"""When nobody did, so many requests are waited for in sleep: looking costs next to nothing then."""

_BUSY = Response(
    503, b'{"error":"no memory for this request now: try again, or send fewer at once"}'
)
App = Callable[[Request], Response]


def _error(status: int, message: str) -> Response:
    return Response(status, msgspec.json.encode({"error": message}))


_CLOSED = select.EPOLLHUP | select.EPOLLERR


class Server:
    """Serves one application; ``watch`` adds the control channel to the same loop."""

    def __init__(
        self,
        app: App,
        listeners: tuple[socket.socket, ...],
        *,
        handover_out: socket.socket | None = None,
        handover_in: socket.socket | None = None,
        request_seconds: float = 30.0,
        body_bytes_max: int = BODY_BYTES_MAX,
        on_drained: Callable[[], None] = lambda: None,
        on_tick: Callable[[float], None] = lambda _: None,
        on_turn: Callable[[int], None] | None = None,
        on_left: Callable[[int], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_turn`` is called with a connection's number before its request is answered, and
        ``on_left`` when it is closed; numbers are used again."""
        self._app = app
        self._on_turn, self._on_left = on_turn, on_left
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._out = handover_out
        self._in = handover_in
        self._request_seconds = request_seconds
        self._body_bytes_max = body_bytes_max
        self._held_bytes_max = HELD_REQUESTS_MAX * (body_bytes_max + HEAD_BYTES_MAX)
        self._on_drained = on_drained
        self._on_tick = on_tick
        self._monotonic = monotonic
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._ready: deque[Connection] = deque()
        self._watched: dict[int, Callable[[], None]] = {}
        self._listening = False
        self._draining = False
        self._accepting = False
        self._out_watched = False
        self._taking = False
        self._running = True
        self.requests = 0
        self._look_from = 1

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._connections)

    def watch(self, descriptor: int, call: Callable[[], None]) -> None:
        """Have the loop call back when a descriptor can be read."""
        self._watched[descriptor] = call
        self._epoll.register(descriptor, select.EPOLLIN)

    def accept(self) -> None:
        """Begin, or begin again, to take connections."""
        self._accepting, self._draining = True, False
        for connection in self._connections.values():
            connection.close_after_answer = False
        self._listen(on=True)
        self._watch_handover(taking=True)
        self._watch_out(on=False)

    def pause(self) -> None:
        """Take no more connections, finish what was begun, hand over the rest."""
        self._accepting, self._draining = False, True
        self._listen(on=False)
        self._watch_handover(taking=False)
        self._drain()

    def stop(self) -> None:
        """End the loop after the event in hand."""
        self._running = False

    def run(self) -> None:
        """Serve until ``stop``; then close what is left."""
        next_tick = self._monotonic()
        while self._running:
            now = self._monotonic()
            if now >= next_tick:
                self._tick(now)
                next_tick = now + TICK_SECONDS
            timeout = 0.0 if self._ready else max(next_tick - now, 0.0)
            for descriptor, events in self._wait(timeout):
                self._dispatch(descriptor, events)
            if self._ready:
                # One, then a look at who has come: whoever is answered last would miss a turn.
                self._serve_one(self._ready.popleft())
        for connection in list(self._connections.values()):
            self._close(connection)
        self._epoll.close()

    def _wait(self, timeout: float) -> list[tuple[int, int]]:
        """What has happened: looked for a moment before sleeping, where that paid off of late."""
        if self.requests < self._look_from or not timeout:
            return self._epoll.poll(timeout)
        ends = time.perf_counter() + LOOK_SECONDS
        while time.perf_counter() < ends:
            if found := self._epoll.poll(0.0):
                return found
        self._look_from = self.requests + LOOK_AGAIN_REQUESTS
        return self._epoll.poll(timeout)

    def _dispatch(self, descriptor: int, events: int) -> None:
        connection = self._connections.get(descriptor)
        if connection is not None:
            self._on_connection(connection, events)
        elif descriptor in self._watched:
            self._watched[descriptor]()
        elif descriptor in self._listeners:
            self._accept_from(self._listeners[descriptor])
        elif self._in is not None and descriptor == self._in.fileno():
            self._take_over(self._in)
        elif self._out is not None and descriptor == self._out.fileno():
            self._watch_out(on=False)
            self._drain()

    def _listen(self, *, on: bool) -> None:
        if on != self._listening:
            self._listening = on
            for descriptor in self._listeners:
                self._watch(descriptor, select.EPOLLIN if on else 0)

    def _watch(self, descriptor: int, interest: int) -> None:
        if interest:
            self._epoll.register(descriptor, interest)
        else:
            self._epoll.unregister(descriptor)

    def _watch_handover(self, *, taking: bool) -> None:
        if self._in is not None and taking != self._taking:
            self._taking = taking
            self._watch(self._in.fileno(), select.EPOLLIN if taking else 0)

    def _watch_out(self, *, on: bool) -> None:
        if self._out is not None and on != self._out_watched:
            self._out_watched = on
            self._watch(self._out.fileno(), select.EPOLLOUT if on else 0)

    def _accept_from(self, listener: socket.socket) -> None:
        if not self._accepting:
            return
        if len(self._connections) >= CONNECTIONS_MAX and not self._free_connection():
            self._listen(on=False)  # the next tick tries again
            return
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the other worker was quicker, or the client has gone
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                raise
            log.warning("can't accept a connection: %s", error.strerror)
            self._listen(on=False)  # the next tick tries again
            return
        if listener.family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._add(client)

    def _take_over(self, source: socket.socket) -> None:
        taken = handover.receive(source) if self._accepting else None
        if taken is None:
            return
        if len(self._connections) >= TAKEN_OVER_MAX and not self._free_connection():
            taken.client.close()
            return
        connection = self._add(taken.client, taken.pending)
        if taken.pending:
            self._advance(connection)

    def _add(self, client: socket.socket, pending: bytes = b"") -> Connection:
        client.settimeout(0.0)
        connection = Connection(client, pending, self._monotonic(), self._body_bytes_max)
        self._connections[client.fileno()] = connection
        self._epoll.register(client.fileno(), select.EPOLLIN)
        connection.interest = select.EPOLLIN
        return connection

    def _on_connection(self, connection: Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush(connection)
        if connection.closed:
            return
        # While a request is being answered the rest stays in the kernel: that bounds the buffer.
        if events & select.EPOLLIN and not connection.busy:
            self._receive(connection)
        elif events & _CLOSED:
            self._close(connection)

    def _receive(self, connection: Connection) -> None:
        """Take what has come of a request: in parts, as reading one lets the kernel take the next.

        Else a request longer than the kernel's buffer waits a turn of all others for each part.
        """
        for _ in range(RECEIVES_MAX):
            if not self._received(connection) or not connection.unfinished:
                return

    def _received(self, connection: Connection) -> bool:
        """Whether there was anything."""
        try:
            data = connection.client.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            self._close(connection)
            return False
        if not data:
            connection.ended = True
            if connection.lingering or not connection.out:
                self._close(connection)
            else:
                self._want(connection, connection.interest & ~select.EPOLLIN)
        elif not connection.lingering:
            self._take(connection, data)
        return bool(data)

    def _take(self, connection: Connection, data: bytes) -> None:
        now = self._monotonic()
        try:
            connection.received(data, now)
            if connection.parser.pending_bytes > patience.SMALL_BYTES:
                self._free_memory(now, connection)
            self._advance(connection)
        except MemoryError:
            self._refuse(connection)

    def _advance(self, connection: Connection) -> None:
        """Queue the connection when a whole request is there."""
        if connection.busy or connection.closed or connection.finishing:
            return
        if len(connection.out) > OUT_BYTES_MAX:
            return
        try:
            connection.request = connection.parser.next()
        except HttpError as error:
            self._reject(connection, error.status, str(error))
            return
        if connection.request is not None:
            connection.busy = True
            self._ready.append(connection)
            return
        if connection.parser.wants_continue():
            held = patience.held_bytes(self._connections.values())
            if held + connection.parser.announced_bytes > self._held_bytes_max:
                self._refuse(connection)
                return
            self._send(connection, CONTINUE)
        connection.settle(self._monotonic())
        if connection.ended and not connection.out:
            self._close(connection)
        elif self._draining:
            self._hand_over(connection)

    def _serve_one(self, connection: Connection) -> None:
        request = connection.request
        if connection.closed or request is None:
            return
        connection.request = None
        self.requests += 1
        last = connection.close_after_answer and not connection.parser.pending_bytes
        keep = request.keep_alive and not last
        connection.finishing = not keep
        try:
            self._send(connection, self._answer(connection, request, keep_alive=keep))
        except MemoryError:  # the answer is there, and no room to keep it until it is taken
            self._refuse(connection)
        connection.busy = False
        if not connection.finishing:
            self._advance(connection)

    def _answer(self, connection: Connection, request: Request, *, keep_alive: bool) -> bytes:
        head_only = request.method == "HEAD"
        if self._on_turn is not None:
            self._on_turn(connection.descriptor)
        try:
            if self._may_answer(connection):
                response = self._app(decoded(request, self._body_bytes_max))
                response = compressed(response, request.headers.get("accept-encoding"))
            else:
                response = _BUSY
            return encode(response, keep_alive=keep_alive, head_only=head_only)
        except HttpError as error:
            response = _error(error.status, str(error))
        except MemoryError:
            response = _BUSY
        except Exception:
            log.exception("a request to %s failed", request.path)
            response = Response(500, b'{"error":"internal error: see the agent\'s log"}')
        return encode(response, keep_alive=keep_alive, head_only=head_only)

    def _reject(self, connection: Connection, status: int, message: str) -> None:
        self._end_with(connection, _error(status, message))

    def _refuse(self, connection: Connection) -> None:
        """There is no memory for its request now."""
        self._end_with(connection, _BUSY)

    def _end_with(self, connection: Connection, response: Response) -> None:
        connection.finishing = True
        connection.parser.clear()
        self._send(connection, encode(response, keep_alive=False))

    def _free_memory(self, now: float, asking: Connection) -> None:
        """Keep what is held within bounds: the slowest clients' requests are refused, or this."""
        while patience.held_bytes(self._connections.values()) > self._held_bytes_max:
            slowest = patience.for_memory(self._connections.values(), asking, now)
            if slowest is not asking and slowest.out:
                self._close(slowest)
            else:
                self._refuse(slowest)
            if slowest is asking:
                return

    def _may_answer(self, connection: Connection) -> bool:
        """Whether answers that nobody takes leave room for one more."""
        now = self._monotonic()
        while patience.owed_bytes(self._connections.values()) > self._held_bytes_max:
            slowest = patience.for_answer(self._connections.values(), connection, now)
            if slowest is None:
                return False
            self._close(slowest)
        return True

    def _free_connection(self) -> bool:
        """Close the connection whose client has been waited for longest, if that is long."""
        slowest = patience.for_client(self._connections.values(), self._monotonic())
        if slowest is not None:
            self._close(slowest)
        return slowest is not None

    def _send(self, connection: Connection, data: bytes) -> None:
        connection.out += data
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            while connection.out:
                sent = connection.client.send(connection.out)
                del connection.out[:sent]
                connection.wrote(self._monotonic())
        except BlockingIOError:
            self._want(connection, select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError:
            self._close(connection)
            return
        self._want(connection, select.EPOLLIN)
        if connection.finishing:
            self._finish(connection)
        elif not connection.busy and connection.interest_changed:
            self._advance(connection)

    def _want(self, connection: Connection, interest: int) -> None:
        if connection.ended or len(connection.out) > OUT_BYTES_MAX:
            interest &= ~select.EPOLLIN
        connection.interest_changed = interest != connection.interest
        if connection.interest_changed:
            self._epoll.modify(connection.descriptor, interest)
            connection.interest = interest

    def _finish(self, connection: Connection) -> None:
        """Say goodbye after the last answer.

        Closing at once with bytes unread would reset the connection, and a reset can overtake
        the answer; so what still comes is read and thrown away until the client closes.
        """
        if connection.ended or connection.lingering:
            self._close(connection)
            return
        connection.lingering = True
        connection.wrote(self._monotonic())
        try:
            connection.client.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.closed:
            return
        connection.closed = True
        with contextlib.suppress(OSError):
            self._epoll.unregister(connection.descriptor)
        del self._connections[connection.descriptor]
        self._on_left(connection.descriptor)
        connection.client.close()
        self._left()

    def _left(self) -> None:
        if self._accepting:
            self._listen(on=True)
        if self._draining and not self._connections:
            self._draining = False
            self._on_drained()

    def _drain(self) -> None:
        for connection in list(self._connections.values()):
            if self._draining:
                self._hand_over(connection)
        if self._draining and not self._connections:
            self._left()

    def _hand_over(self, connection: Connection) -> None:
        if not connection.may_move:
            return  # its answer, or the rest of its request, comes first
        pending = connection.parser.pending
        outcome = handover.send(self._out, connection.client, pending)
        match outcome:
            case handover.Outcome.SENT:
                self._close(connection)
            case handover.Outcome.FULL:
                self._watch_out(on=True)
            case handover.Outcome.IMPOSSIBLE:
                connection.close_after_answer = True
            case _:
                assert_never(outcome)

    def _tick(self, now: float) -> None:
        self._on_tick(now)
        for connection in list(self._connections.values()):
            if connection.overdue(now, self._request_seconds):
                if connection.out or connection.lingering:
                    self._close(connection)
                else:
                    self._reject(
                        connection, 408, f"no whole request in {self._request_seconds:g} s"
                    )
        if self._accepting:
            self._listen(on=True)
