"""A cable of a given rate, distance and habit, between a device and the hub's two ports.

All connections of a cable share its rate, in either direction alone, packet by packet. What waits
for its turn stands in the sender's own buffers, as it does at a modem.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field

PACKET_BYTES = 1400
PACKETS_MAX = 64
"""On their way at once: more than a rate of 100 KB/s has in a second."""
SOCKET_BUFFER_BYTES = 16 * 1024
CATCH_UP_SECONDS = 0.2
"""By which a late timer may be made good."""


@dataclass(frozen=True)
class Profile:
    """What a cable is like."""

    bytes_per_second: float
    delay_seconds: float = 0.4
    """One way."""
    stall_seconds: float = 5.0
    stall_share: float = 0.05
    """Of the time, in which nothing passes."""
    up_seconds: float = 0.0
    """So long it is there and so long it isn't; 0: always there."""

    def passes(self, seconds: float) -> bool:
        """Whether anything passes so many seconds after the beginning."""
        if self.up_seconds:
            return (seconds // self.up_seconds) % 2 == 0
        period = self.stall_seconds / self.stall_share
        return seconds % period < period - self.stall_seconds

    @property
    def share_up(self) -> float:
        """Of the time, in which something passes."""
        return 0.5 if self.up_seconds else 1.0


@dataclass
class _Way:
    """One direction: who sends next may not before this."""

    free_at: float = 0.0
    bytes: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Cable:
    """Listening sockets and where each leads to; ``slow`` puts the profile into force."""

    def __init__(self, profile: Profile, ways: list[tuple[socket.socket, tuple[str, int]]]) -> None:
        self._profile = profile
        self._ways = ways
        self._begun: float | None = None
        self._down, self._up = _Way(), _Way()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def bytes_down(self) -> int:
        """Towards the device, on all its connections."""
        return self._down.bytes

    @property
    def bytes_up(self) -> int:
        """Towards the hub."""
        return self._up.bytes

    def slow(self) -> None:
        """From now on it is as its profile says."""
        self._begun = time.monotonic()

    def close(self) -> None:
        """End all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for listening, target in self._ways:
            self._loop.create_task(self._serve(listening, target))
        self._loop.run_forever()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, listening: socket.socket, target: tuple[str, int]) -> None:
        listening.setblocking(False)  # noqa: FBT003 - as Python has it
        _small_buffers(listening)
        while True:
            near, _ = await self._loop.sock_accept(listening)
            self._tasks.add(task := self._loop.create_task(self._join(near, target)))
            task.add_done_callback(self._tasks.discard)

    async def _join(self, near: socket.socket, target: tuple[str, int]) -> None:
        with near, socket.socket(socket.AF_INET) as far:
            if self._begun is not None:
                await self._handshake()
                if _has_left(near):
                    return
            far.setblocking(False)  # noqa: FBT003 - as Python has it
            _small_buffers(far)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                await self._loop.sock_connect(far, target)
                up = self._loop.create_task(self._pump(near, far, self._up))
                down = self._loop.create_task(self._pump(far, near, self._down))
                # When either end closes nobody waits any more for what stands in its buffers.
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                if self._begun is not None:
                    await asyncio.sleep(self._profile.delay_seconds)  # what is on its way arrives
                up.cancel()
                down.cancel()
                await asyncio.wait((up, down))

    async def _handshake(self) -> None:
        """TCP's own: nobody is connected while nothing passes."""
        now = time.monotonic()
        there_and_back = 2 * self._profile.delay_seconds
        await asyncio.sleep(self._passes_at(now) - now + there_and_back)  # the line is away

    async def _pump(self, source: socket.socket, sink: socket.socket, way: _Way) -> None:
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PACKETS_MAX)
        arriving = self._loop.create_task(self._arrive(on_its_way, sink))
        try:
            while data := await self._loop.sock_recv(source, PACKET_BYTES):
                await self._turn(way, len(data))
                way.bytes += len(data)
                delay = 0.0 if self._begun is None else self._profile.delay_seconds
                await on_its_way.put((time.monotonic() + delay, data))
            await on_its_way.join()
        except OSError:
            pass
        finally:
            arriving.cancel()

    async def _arrive(
        self, on_its_way: asyncio.Queue[tuple[float, bytes]], sink: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                at, data = await on_its_way.get()
                await asyncio.sleep(max(at - time.monotonic(), 0.0))  # the line's length
                await self._loop.sock_sendall(sink, data)
                on_its_way.task_done()

    def _passes_at(self, moment: float) -> float:
        """When something passes, from then on."""
        assert self._begun is not None
        while not self._profile.passes(moment - self._begun):
            moment += 0.05
        return moment

    async def _turn(self, way: _Way, size: int) -> None:
        """Wait until so many bytes have passed."""
        if self._begun is None:
            return
        async with way.turn:
            rest = size / self._profile.bytes_per_second
            free_at = max(way.free_at, time.monotonic() - CATCH_UP_SECONDS)
            way.free_at = self._passes_at(free_at) + rest
            await asyncio.sleep(max(way.free_at - time.monotonic(), 0.0))  # the line's rate


def _has_left(peer: socket.socket) -> bool:
    """Whether who connected has closed meanwhile, whatever it had said."""
    poll = select.poll()
    poll.register(peer, select.POLLRDHUP)
    return bool(poll.poll(0))


def _small_buffers(of: socket.socket) -> None:
    """A modem holds little: what is more stands at the sender, and ends with its connection."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        of.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)


def listen_and_run(control: str, ports: list[int], command: list[str]) -> None:
    """In a network namespace of its own: listen on its loopback, hand the sockets over, run."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    made = [socket.create_server(("127.0.0.1", port)) for port in ports]
    with socket.socket(socket.AF_UNIX) as parent:
        parent.connect(control)
        socket.send_fds(parent, [b"."], [each.fileno() for each in made])
    os.execvp(command[0], command)


if __name__ == "__main__":
    listen_and_run(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])
