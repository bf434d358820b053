"""The ring: a file both the worker and the supervisor map, written by one, read by the other.

The file outlives the worker: what it published before it died can still be read. A row becomes
visible only when the count of published rows moves past it, so a reader never sees half a row; a
reader that is too slow loses the oldest rows and is told how many. Nobody ever waits.

Layout: one page of head (magic, sizes, the count), the tensor layout as JSON, then the rows.
"""

import mmap
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import numpy as np

from muster_agent.worker import barrier
from muster_agent.worker.rows import HEAD_FORMAT, ROWS_MAX, Quality, RingLayout, RowKind, Rows
from muster_protocol.wire.errors import MusterError

__all__ = ["ReadResult", "Ring", "RingError", "RingLayout"]

_MAGIC = b"MUSTRING"
_FORMAT = 1
_HEAD = struct.Struct("<8sIIQQ")  # magic, format, layout bytes, row bytes, capacity rows
_PAGE = 4096
_COUNT_INDEX = 64 // 8
"""The published count stands on a cache line of its own, eight bytes, written in one store."""
_LAYOUT_BYTES_MAX = 256 * 1024
_head_pack = struct.Struct(HEAD_FORMAT).pack


class RingError(MusterError):
    """A ring file that isn't one, or can't be made."""


class ReadResult(NamedTuple):
    rows: Rows
    cursor: int
    overrun: int
    """Rows lost since the last read because the ring went round."""


class Ring:
    """A mapped ring. Make it with ``create`` or ``open``."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            raise RingError(f"{path}: {error.strerror}") from None
        try:
            size = os.fstat(descriptor).st_size
            if size < _PAGE:
                raise RingError(f"{path}: {size} bytes is too short for a ring")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(descriptor, size, access=access)
        finally:
            os.close(descriptor)
        magic, form, layout_bytes, row_bytes, capacity = _HEAD.unpack_from(self._map)
        self._start = _rows_start(layout_bytes)
        if magic != _MAGIC or form != _FORMAT or size != self._start + row_bytes * capacity:
            raise RingError(f"{path}: not a ring of format {_FORMAT}")
        self.layout = msgspec.json.decode(self._map[_PAGE : _PAGE + layout_bytes], type=RingLayout)
        if row_bytes != self.layout.row_bytes:
            raise RingError(f"{path}: rows of {row_bytes} bytes don't fit the layout it names")
        self.path = path
        self.capacity_rows: int = capacity
        self._row_bytes: int = row_bytes
        self._view = memoryview(self._map)
        self._counts = self._view[:_PAGE].cast("Q")
        self._payload_bytes = row_bytes - struct.calcsize(HEAD_FORMAT)
        if writable:
            barrier.register()

    @classmethod
    def create(cls, path: Path, layout: RingLayout, capacity_rows: int) -> "Ring":
        """Make an empty ring file, replacing an old one; its space is allocated at once.

        A sparse file would kill the worker by SIGBUS when the disk is full.
        """
        if not 1 <= capacity_rows <= ROWS_MAX:
            raise RingError(f"{path}: a ring of {capacity_rows} rows; allowed are 1 to {ROWS_MAX}")
        described = msgspec.json.encode(layout)
        if len(described) > _LAYOUT_BYTES_MAX:
            raise RingError(f"{path}: a layout of {len(described)} bytes is too long")
        head = _HEAD.pack(_MAGIC, _FORMAT, len(described), layout.row_bytes, capacity_rows)
        fresh = path.with_name(path.name + ".new")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(fresh, flags, 0o600)
            try:
                size = _rows_start(len(described)) + layout.row_bytes * capacity_rows
                os.posix_fallocate(descriptor, 0, size)
                os.pwrite(descriptor, head, 0)
                os.pwrite(descriptor, described, _PAGE)
            finally:
                os.close(descriptor)
            # A new inode: a worker that still maps the old file keeps it to itself.
            fresh.rename(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise RingError(f"{path}: can't make the ring: {error.strerror}") from None
        return cls(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "Ring":
        return cls(path, writable=writable)

    @property
    def published(self) -> int:
        """Rows ever published, lost ones included."""
        return self._counts[_COUNT_INDEX]

    def append(
        self,
        monotonic_ns: int,
        latency_us: int,
        kind: int,
        error: int,
        quality: int,
        identifier: bytes,
        *payload: bytes | memoryview,
    ) -> None:
        """Publish one row; only one thread of one process may. Payload must fit the row."""
        head = _head_pack(monotonic_ns, latency_us, kind, error, quality, identifier)
        data = b"".join((head, *payload))
        size = len(data)
        if size > self._row_bytes:
            raise ValueError(f"a row of {size} bytes, the ring holds {self._row_bytes}")
        published = self._counts[_COUNT_INDEX]
        start = self._start + published % self.capacity_rows * self._row_bytes
        self._view[start : start + size] = data
        self._counts[_COUNT_INDEX] = published + 1

    def read(self, cursor: int = 0, rows_max: int = 4096) -> ReadResult:
        """Copy at most ``rows_max`` rows from ``cursor`` on.

        Rows that were, or might just be being, overwritten while they were copied are dropped and
        counted as overrun. A cursor beyond the end belongs to another ring and starts again at 0.
        """
        published = self.published
        barrier.synchronise()
        if cursor > published or cursor < 0:
            cursor = 0
        # The writer may already be filling the slot of the oldest row.
        first = max(cursor, published - self.capacity_rows + 1, 0)
        last = min(published, first + rows_max)
        rows = self._copy(first, last)
        barrier.synchronise()
        safe = max(self.published - self.capacity_rows + 1, first)
        if safe > first:
            rows = rows[min(safe, last) - first :]
            first = safe
            last = max(last, safe)
        return ReadResult(rows, last, first - cursor)

    def latencies_us(self, rows_max: int = 1024) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Latencies of the last model answers, newest last; for the worker's own heartbeat."""
        published = self.published
        rows = self._copy(max(published - min(rows_max, self.capacity_rows - 1), 0), published)
        chosen = (rows["kind"] == RowKind.INFERENCE) & (rows["quality"] == Quality.GOOD)
        return np.asarray(rows["latency_us"][chosen], np.uint32)

    def _copy(self, first: int, last: int) -> Rows:
        rows = np.empty(max(last - first, 0), self.layout.dtype)
        target = rows.view(np.uint8).data
        done, index = 0, first
        while index < last:
            slot = index % self.capacity_rows
            count = min(last - index, self.capacity_rows - slot)
            start = self._start + slot * self._row_bytes
            size = count * self._row_bytes
            target[done : done + size] = self._view[start : start + size]
            done += size
            index += count
        return rows

    def close(self) -> None:
        self._counts.release()
        self._view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _rows_start(layout_bytes: int) -> int:
    return _PAGE + -(-layout_bytes // _PAGE) * _PAGE
