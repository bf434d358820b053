"""A device's disk: full for a while, or without power from one write to the next.

A fuse counts the steps at which power may go: before and after each transaction, each chunk kept,
each file of a bundle put together. What ``muster_agent.storage.files`` writes is synced, so it
stays; what it had not finished is left torn.
"""

import contextlib
import errno
import random
import sqlite3
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from muster_agent.storage.content import Store
from muster_agent.storage.rows import JournalRow
from muster_agent.storage.state import StateDatabase
from muster_agent.update.bundle import STEP_BYTES

FREE_BYTES = 1 << 40


class PowerCut(BaseException):
    """The device is gone; nothing may catch this but the world."""


class Disk:
    """What the world does to one device's disk."""

    def __init__(self) -> None:
        self.full = False
        self.full_at_commit = False
        """A full disk is found out only when the transaction ends."""
        self.full_in_assembly = False
        """Chunks still fit, the bundle that is put together of them does not."""
        self.bad_chunks = 0
        """Chunks from now on of which a byte rots as soon as they are written."""
        self.stall: Callable[[], bool] = lambda: False
        """Called for each file of a bundle; True when meanwhile others had their turn."""
        self.cut_at_commit = False
        """The power goes when the next model has been committed."""
        self.fuse: int | None = None
        """Steps until the power goes."""

    def burn(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                raise PowerCut

    def write(self) -> None:
        self.burn()
        if self.full and not self.full_at_commit:
            raise sqlite3.OperationalError("database or disk is full")

    def commit(self) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")

    def free_bytes(self, _path: Path) -> int:
        return 0 if self.full else FREE_BYTES


class DiskState(StateDatabase):
    """The agent's database on such a disk. ``committed`` is called after each transaction."""

    disk = Disk()
    committed: Callable[[], None] = staticmethod(lambda: None)
    undone: Callable[[], None] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if self.connection.in_transaction:
            yield
            return
        self.disk.write()
        try:
            with super().transaction():
                yield
                self.disk.commit()
        except BaseException:
            self.undone()
            raise
        self.committed()
        self.disk.burn()

    def put_journal(self, slot: str, row: JournalRow) -> None:
        if self.disk.cut_at_commit and row.state == "committed":
            self.disk.cut_at_commit, self.disk.fuse = False, 1
        super().put_journal(slot, row)

    def cut(self) -> None:
        """The power goes: an open transaction is undone, the rest is on the disk."""
        self.connection.close()


class DiskStore(Store):
    """The agent's store on such a disk."""

    disk = Disk()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.added: list[tuple[str, bytes]] = []
        """Since the last commit."""
        self.unfinished: list[Generator[int, None, None]] = []

    def put(self, digest: str, data: bytes | memoryview) -> None:
        self.disk.burn()
        if self.disk.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().put(digest, data)
        if self.disk.bad_chunks:
            self.disk.bad_chunks -= 1
            path = self.directory / "chunks" / digest[:2] / digest
            path.write_bytes(b"rotten" + bytes(data[6:]))
        self.disk.burn()

    def add(self, digest: str, data: bytes | memoryview) -> int:
        self.disk.burn()
        if self.disk.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.added.append((digest, bytes(data)))
        return super().add(digest, data)

    def commit(self) -> None:
        if not self.added:
            return
        self.disk.burn()
        super().commit()
        for digest, data in self.added[: self.disk.bad_chunks]:
            path = self.directory / "chunks" / digest[:2] / digest
            path.write_bytes(b"rotten" + data[6:])
        self.disk.bad_chunks -= min(len(self.added), self.disk.bad_chunks)
        self.added.clear()
        self.disk.burn()

    def assemble(self, *args: Any) -> Iterator[int]:
        pieces = self._paced(super().assemble(*args))
        self.unfinished.append(pieces)
        return pieces

    def _paced(self, pieces: Iterator[int]) -> Generator[int, None, None]:
        with contextlib.closing(pieces):  # type: ignore[type-var]  # it is a generator
            for size in pieces:
                self.disk.burn()
                if self.disk.full or self.disk.full_in_assembly:
                    raise OSError(errno.ENOSPC, "no space left on device")
                yield STEP_BYTES if self.disk.stall() else size

    def cut(self) -> None:
        """The process is gone. What it was putting together must not be closed later, by chance."""
        for pieces in self.unfinished:
            pieces.close()


def tear(store: Path, rng: random.Random) -> None:
    """Leave half-written files as a power cut may: their names are there, their bytes are not."""
    target = store / "bundles" / ("ab" * 32 + ".part")
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(rng.randbytes(rng.randrange(100)))


def rot(bundle: Path, rng: random.Random) -> bool:
    """Alter one byte of an installed model."""
    path = bundle / "model.onnx"
    if not path.is_file():
        return False
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 0xFF
        path.write_bytes(data)
    return bool(data)
