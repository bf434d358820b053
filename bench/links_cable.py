"""A cable of a given rate, distance and habit, between a device and the hub's two ports.

All connections of a cable share its rate, in either direction alone, packet by packet. What waits
for its turn stands in the sender's own buffers, as it does at a modem.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field

PACKET_BYTES = 1400
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
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        for listening, target in self._ways:
            self._loop.create_task(self._serve(listening, target))
        self._loop.run_forever()

    async def _serve(self, listening: socket.socket, target: tuple[str, int]) -> None:
        async def connected(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            if self._begun is not None:
                await asyncio.sleep(2 * self._profile.delay_seconds)  # the handshake of TCP
            try:
                far, on = await asyncio.open_connection(*target, limit=SOCKET_BUFFER_BYTES)
            except OSError:
                back.close()
                return
            await asyncio.gather(self._pump(near, on, self._up), self._pump(far, back, self._down))

        await asyncio.start_server(connected, sock=listening, limit=SOCKET_BUFFER_BYTES)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: _Way
    ) -> None:
        opened = sink.get_extra_info("socket")
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := await source.read(PACKET_BYTES):
                await self._turn(way, len(data))
                way.bytes += len(data)
                if self._begun is None:
                    sink.write(data)
                else:
                    self._loop.call_later(self._profile.delay_seconds, sink.write, data)
        except OSError:
            pass
        finally:
            if self._begun is not None:
                await asyncio.sleep(self._profile.delay_seconds)  # what is on its way arrives
            with contextlib.suppress(OSError):
                sink.close()

    async def _turn(self, way: _Way, size: int) -> None:
        """Wait until so many bytes have passed."""
        if self._begun is None:
            return
        async with way.turn:
            rest = size / self._profile.bytes_per_second
            free_at = max(way.free_at, time.monotonic() - CATCH_UP_SECONDS)
            while not self._profile.passes(free_at - self._begun):
                free_at += 0.05
            way.free_at = free_at + rest
            await asyncio.sleep(max(way.free_at - time.monotonic(), 0.0))  # the line's rate


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
