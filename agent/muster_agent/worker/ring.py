"""The ring: a file that the worker maps and writes, and the supervisor reads.

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

__all__ = ["ReadResult", "Ring", "RingError", "RingLayout", "RingReader"]

_MAGIC = b"MUSTRING"
_FORMAT = 1
_HEAD = struct.Struct("<8sIIQQ")  # magic, format, layout bytes, row bytes, capacity rows
_PAGE = 4096
_COUNT_INDEX = 64 // 8
"""The published count stands on a cache line of its own, eight bytes, written in one store."""
LEAP_ROWS_MAX = 1 << 28
"""More rows than any worker writes between two looks at its ring."""
_LAYOUT_BYTES_MAX = 256 * 1024
_head_pack = struct.Struct(HEAD_FORMAT).pack


class RingError(MusterError):
    """A ring file that isn't one, or can't be made."""


class ReadResult(NamedTuple):
    """Rows that were read, where to read on, and how many were lost before them."""

    rows: Rows
    cursor: int
    overrun: int
    """Rows lost since the last read because the ring went round."""


class RingReader:
    """A ring as its reader has it: read call by call, never mapped.

    A mapping of a file that its writer cuts short ends the process that looks at it, and the
    writer of a worker's ring may be a hostile model.
    """

    def __init__(self, path: Path) -> None:
        """Raises RingError."""
        self.path = path
        self._descriptor = _opened(path, os.O_RDONLY)
        try:
            self._read_head(os.fstat(self._descriptor).st_size)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _read_head(self, size: int) -> None:
        if size < _PAGE:
            raise RingError(f"{self.path}: {size} bytes is too short for a ring")
        head = os.pread(self._descriptor, _HEAD.size, 0)
        magic, form, layout_bytes, row_bytes, capacity = _HEAD.unpack(head)
        self._start = _rows_start(min(layout_bytes, _LAYOUT_BYTES_MAX))
        if (
            (magic, form) != (_MAGIC, _FORMAT)
            or not 1 <= capacity <= ROWS_MAX
            or layout_bytes > _LAYOUT_BYTES_MAX
            or size != self._start + row_bytes * capacity
        ):
            raise RingError(f"{self.path}: not a ring of format {_FORMAT}")
        described = os.pread(self._descriptor, layout_bytes, _PAGE)
        try:
            self.layout = msgspec.json.decode(described, type=RingLayout)
            expected = self.layout.row_bytes
            self._dtype = self.layout.dtype
        except (msgspec.MsgspecError, ValueError, OverflowError, UnicodeDecodeError) as error:
            raise RingError(f"{self.path}: a layout that is none: {error}") from None
        if row_bytes != expected:
            raise RingError(f"{self.path}: rows of {row_bytes} bytes don't fit the layout it names")
        self.capacity_rows: int = capacity
        self._row_bytes: int = row_bytes

    @property
    def published(self) -> int:
        """Rows ever published, lost ones included."""
        while True:  # Until two looks agree: one might see half of a store.
            first, again = (
                os.pread(self._descriptor, 8, _COUNT_INDEX * 8),
                os.pread(self._descriptor, 8, _COUNT_INDEX * 8),
            )
            if len(first) < 8:
                raise RingError(f"{self.path}: it was cut short")
            if first == again:
                return int.from_bytes(first, "little")

    def read(self, cursor: int = 0, rows_max: int = 4096) -> ReadResult:
        """Copy at most ``rows_max`` rows from ``cursor`` on.

        Rows that were, or might just be being, overwritten while they were copied are dropped and
        counted as overrun. A cursor beyond the end belongs to another ring and starts again at 0.
        Raises RingError for a ring that its writer has damaged.
        """
        published = self.published
        barrier.synchronise()
        if cursor > published or cursor < 0:
            cursor = 0
        if published - cursor > LEAP_ROWS_MAX:
            raise RingError(f"{self.path}: {published} rows can't have been written")
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

    def _copy(self, first: int, last: int) -> Rows:
        rows = np.empty(max(last - first, 0), self._dtype)
        target = rows.view(np.uint8).data
        done, index = 0, first
        while index < last:
            slot = index % self.capacity_rows
            count = min(last - index, self.capacity_rows - slot)
            size = count * self._row_bytes
            self._fill(target[done : done + size], self._start + slot * self._row_bytes)
            done += size
            index += count
        return rows

    def _fill(self, target: memoryview, at: int) -> None:
        data = os.pread(self._descriptor, len(target), at)
        if len(data) != len(target):
            raise RingError(f"{self.path}: it was cut short")
        target[:] = data

    def close(self) -> None:
        """Let the file go; it stays on the disk."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Ring(RingReader):
    """A ring as its only writer has it: mapped."""

    def __init__(self, path: Path) -> None:
        """Raises RingError."""
        super().__init__(path)
        descriptor = _opened(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, self._start + self._row_bytes * self.capacity_rows)
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self._head_dtype = self.layout.head_dtype
        self._counts = self._view[:_PAGE].cast("Q")
        self._inputs_bytes, self._outputs_bytes = self.layout.input_bytes, self.layout.output_bytes
        whole = f"{HEAD_FORMAT}{self._inputs_bytes}s{self._outputs_bytes}s"
        self._pack_into = struct.Struct(whole).pack_into
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
        return cls(path)

    @property
    def published(self) -> int:
        """Rows that were ever published."""
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

    def append_answer(
        self,
        monotonic_ns: int,
        latency_us: int,
        kind: int,
        error: int,
        quality: int,
        identifier: bytes,
        inputs: bytes,
        outputs: bytes,
    ) -> None:
        """Publish one row of a model's usual shape: as ``append``, in half the time.

        Every answer of every model pays for this, so it packs straight into the file.
        """
        if len(inputs) != self._inputs_bytes or len(outputs) != self._outputs_bytes:
            raise ValueError(f"a row of {len(inputs)} and {len(outputs)} bytes is not of this ring")
        published = self._counts[_COUNT_INDEX]
        self._pack_into(
            self._map,
            self._start + published % self.capacity_rows * self._row_bytes,
            monotonic_ns,
            latency_us,
            kind,
            error,
            quality,
            identifier,
            inputs,
            outputs,
        )
        self._counts[_COUNT_INDEX] = published + 1

    def latencies_us(self, rows_max: int = 1024) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Latencies of the last model answers, newest last; for the worker's own heartbeat."""
        # Of each row a few bytes: copies of whole ones would need memory when there is none left.
        published = self.published
        count = min(rows_max, self.capacity_rows - 1, published)
        slots = np.arange(published - count, published) % self.capacity_rows
        rows = np.frombuffer(self._view, self._head_dtype, self.capacity_rows, self._start)
        kinds, qualities = rows["kind"][slots], rows["quality"][slots]
        chosen = slots[(kinds == RowKind.INFERENCE) & (qualities == Quality.GOOD)]
        return np.asarray(rows["latency_us"][chosen], np.uint32)

    def _fill(self, target: memoryview, at: int) -> None:
        target[:] = self._view[at : at + len(target)]

    def close(self) -> None:
        """Let the file go; it stays on the disk."""
        super().close()
        self._counts.release()
        self._view.release()
        self._map.close()


def _opened(path: Path, access: int) -> int:
    try:
        return os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise RingError(f"{path}: {error.strerror}") from None


def _rows_start(layout_bytes: int) -> int:
    return _PAGE + -(-layout_bytes // _PAGE) * _PAGE
