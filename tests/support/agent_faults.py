"""What may go wrong with a device's power and disk, at the n-th step that it makes."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from muster_agent.storage.content import Store
from muster_agent.storage.state import StateDatabase
from muster_protocol.wire.messages import ClockQuality
from support.tuf_repository import NOW


class PowerCut(BaseException):
    """The device is gone; nothing may catch this but the world."""


class Fuse:
    """Counts the device's steps and cuts the power at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def burn(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise PowerCut

    def write(self) -> None:
        """The step before a transaction."""
        self.burn()


class FullDisk(Fuse):
    """The database takes nothing from the n-th step on, for so many steps."""

    def __init__(self, at: int, steps: int = 3) -> None:
        super().__init__(at)
        self.until = at + steps

    def burn(self) -> None:
        self.steps += 1

    def write(self) -> None:
        self.steps += 1
        if self.at is not None and self.at <= self.steps < self.until:
            raise sqlite3.OperationalError("database or disk is full")


class WorldClock:
    def __init__(self) -> None:
        self.seconds = 1000.0
        self.boots = 1
        self.wall_offset = float(NOW)
        self.trusted: ClockQuality = "synchronised"

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.wall_offset + self.seconds

    def boot_id(self) -> bytes:
        return self.boots.to_bytes(16, "big")

    def quality(self) -> ClockQuality:
        return self.trusted


class FusedState(StateDatabase):
    """Burns before each transaction begins and after it has committed."""

    fuse = Fuse()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if self.connection.in_transaction:
            yield
            return
        self.fuse.write()
        with super().transaction():
            yield
        self.fuse.burn()


class FusedStore(Store):
    fuse = Fuse()

    def put(self, digest: str, data: bytes | memoryview) -> None:
        self.fuse.burn()
        super().put(digest, data)
        self.fuse.burn()

    def add(self, digest: str, data: bytes | memoryview) -> int:
        self.fuse.burn()
        return super().add(digest, data)

    def commit(self) -> None:
        self.fuse.burn()
        super().commit()
        self.fuse.burn()

    def assemble(self, *args: Any) -> Iterator[int]:
        for size in super().assemble(*args):
            self.fuse.burn()
            yield size

    def sweep(self, keep: Any, fetching: Any) -> None:
        self.fuse.burn()
        super().sweep(keep, fetching)
        self.fuse.burn()
