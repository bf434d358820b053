"""A TCP line that can be cut, stalled or filled with garbage."""

import asyncio
import contextlib
import random
from typing import Literal, Self

from support.ports import free_port

Mode = Literal["pass", "cut", "stall", "garbage"]


class BadLine:
    """Stands between a client and a server on this machine; ``mode`` says what becomes of bytes."""

    def __init__(self, server_port: int, seed: int = 1) -> None:
        self.port = free_port()
        self.mode: Mode = "pass"
        self._server_port = server_port
        self._rng = random.Random(seed)
        self._writers = set[asyncio.StreamWriter]()

    async def turn(self, mode: Mode) -> None:
        """From now on."""
        self.mode = mode
        if mode == "cut":
            for writer in list(self._writers):
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.mode == "cut":
                return
            theirs = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, theirs[1]}
        await asyncio.gather(
            self._pump(reader, theirs[1]), self._pump(theirs[0], writer), return_exceptions=True
        )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                if self.mode == "stall":
                    continue
                if self.mode == "garbage":
                    data = self._rng.randbytes(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.turn("cut")
