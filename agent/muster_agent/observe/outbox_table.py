"""The outbox's tables: rows by stream, sequences, running totals, and the baselines rows need."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar, get_args

from muster_agent.observe.merging import Mergeable
from muster_protocol.wire.messages import Row, Stream

STREAMS: tuple[Stream, ...] = get_args(Stream)
"""In the order in which they are sent."""
EPOCH_BYTES = 16
ROW_OVERHEAD_BYTES = 64
"""What SQLite and its index take beside the payload."""
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox_row (
    id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, manifest TEXT NOT NULL,
    windows INTEGER NOT NULL, sequence INTEGER, payload BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS outbox_sequence ON outbox_row (stream, sequence);
CREATE INDEX IF NOT EXISTS outbox_manifest ON outbox_row (manifest);
CREATE TABLE IF NOT EXISTS outbox_stream (
    stream TEXT PRIMARY KEY, epoch BLOB NOT NULL, assigned INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    merged INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS outbox_baseline (manifest TEXT PRIMARY KEY, file BLOB NOT NULL)
"""


@dataclass(frozen=True)
class StreamTotals:
    """One stream's numbers, kept beside its rows so that nobody has to count."""

    epoch: bytes
    assigned: int
    """Last sequence given to a row of this epoch."""
    rows: int
    bytes: int
    merged: int
    dropped: int


class OutboxTable:
    """Plain statements; every one that writes joins an open transaction, or makes its own."""

    def __init__(self, connection: sqlite3.Connection, new_epoch: Callable[[int], bytes]) -> None:
        self._connection = connection
        self._new_epoch = new_epoch
        self._seen: dict[tuple[str, Stream], Any] = {}
        """What was read since these tables were last written, outside of transactions."""
        self._written = False
        with self.transaction():
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            for stream in STREAMS:
                connection.execute(
                    "INSERT OR IGNORE INTO outbox_stream (stream, epoch) VALUES (?, ?)",
                    (stream, new_epoch(EPOCH_BYTES)),
                )

    @property
    def in_transaction(self) -> bool:
        """Whether changes wait for their commit."""
        return self._connection.in_transaction

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join the transaction that is open, or make one for this block."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.OperationalError):  # SQLite may have rolled back by itself
                self._connection.execute("ROLLBACK")
            raise

    def _change(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        self._written = True
        return self._connection.execute(statement, values)

    def _look(self, what: str, stream: Stream, read: Callable[[Stream], T]) -> T:
        """``read`` the tables, or tell again what they held when nothing was written since.

        What is read within a transaction may still be rolled back, so it is not remembered; a
        write counts as one also when it was rolled back.
        """
        if self._connection.in_transaction:
            return read(stream)
        if self._written:
            self._seen.clear()
            self._written = False
        key = (what, stream)
        if key not in self._seen:
            self._seen[key] = read(stream)
        found: T = self._seen[key]
        return found

    def totals(self, stream: Stream) -> StreamTotals:
        """Numbers of one stream without reading its rows."""
        return self._look("totals", stream, self._totals)

    def _totals(self, stream: Stream) -> StreamTotals:
        row = self._connection.execute(
            "SELECT epoch, assigned, rows, bytes, merged, dropped FROM outbox_stream "
            "WHERE stream = ?",
            (stream,),
        ).fetchone()
        return StreamTotals(*row)

    def size_bytes(self) -> int:
        """All that counts towards the outbox's bound."""
        (files,) = self._connection.execute(
            "SELECT COALESCE(SUM(LENGTH(file)), 0) FROM outbox_baseline"
        ).fetchone()
        return int(files) + sum(self.totals(stream).bytes for stream in STREAMS)

    def insert(self, stream: Stream, manifest: str, windows: int, payload: bytes) -> None:
        """Add a row at the stream's end; its sequence is given when it is first sent."""
        with self.transaction():
            self._change(
                "INSERT INTO outbox_row (stream, manifest, windows, payload) VALUES (?, ?, ?, ?)",
                (stream, manifest, windows, payload),
            )
            self._grow(stream, 1, len(payload) + ROW_OVERHEAD_BYTES)

    def in_flight(self, stream: Stream) -> list[tuple[int, int]]:
        """(sequence, payload bytes), rising. Not to be altered by the caller."""
        return self._look("in flight", stream, self._in_flight)

    def _in_flight(self, stream: Stream) -> list[tuple[int, int]]:
        return self._connection.execute(
            "SELECT sequence, LENGTH(payload) FROM outbox_row "
            "WHERE stream = ? AND sequence IS NOT NULL ORDER BY sequence",
            (stream,),
        ).fetchall()

    def launch(self, stream: Stream, rows_max: int, room_bytes: int) -> list[tuple[int, int]]:
        """Give the oldest waiting rows their sequences, durably; (sequence, payload bytes).

        A row goes as long as those before it have left any of the room.
        """
        if min(rows_max, room_bytes) <= 0:
            return []
        waiting = self._connection.execute(
            "SELECT id, LENGTH(payload) FROM outbox_row "
            "WHERE stream = ? AND sequence IS NULL ORDER BY id LIMIT ?",
            (stream, rows_max),
        ).fetchall()
        if not waiting:
            return []
        before = accumulate((size + ROW_OVERHEAD_BYTES for _, size in waiting), initial=0)
        waiting = [row for row, taken in zip(waiting, before, strict=False) if taken < room_bytes]
        with self.transaction():
            first = self.totals(stream).assigned + 1
            self._written = True
            self._connection.executemany(
                "UPDATE outbox_row SET sequence = ? WHERE id = ?",
                [(first + place, identifier) for place, (identifier, _) in enumerate(waiting)],
            )
            self._change(
                "UPDATE outbox_stream SET assigned = ? WHERE stream = ?",
                (first + len(waiting) - 1, stream),
            )
        return [(first + place, size) for place, (_, size) in enumerate(waiting)]

    def rows(self, stream: Stream, sequences: list[int]) -> list[Row]:
        """Rows in flight, by rising sequence."""
        found = self._connection.execute(
            "SELECT sequence, payload FROM outbox_row "
            "WHERE stream = ? AND sequence BETWEEN ? AND ? ORDER BY sequence",
            (stream, sequences[0], sequences[-1]),
        )
        wanted = set(sequences)
        return [Row(*row) for row in found if row[0] in wanted]

    def delete_up_to(self, stream: Stream, sequence: int) -> int:
        """Delete rows in flight up to a sequence; returns how many."""
        with self.transaction():
            gone = self._change(
                "DELETE FROM outbox_row WHERE stream = ? AND sequence <= ? "
                "RETURNING LENGTH(payload)",
                (stream, sequence),
            ).fetchall()
            size = sum(row[0] for row in gone) + len(gone) * ROW_OVERHEAD_BYTES
            self._grow(stream, -len(gone), -size)
        return len(gone)

    def renew_epoch(self, stream: Stream) -> None:
        """Begin a new numbering; nothing may be in flight."""
        self._change(
            "UPDATE outbox_stream SET epoch = ?, assigned = 0 WHERE stream = ?",
            (self._new_epoch(EPOCH_BYTES), stream),
        )

    def drop_oldest(self, stream: Stream) -> bool:
        """Give up the oldest waiting row and count it; False when none waits."""
        with self.transaction():
            gone = self._change(
                "DELETE FROM outbox_row WHERE id = (SELECT MIN(id) FROM outbox_row "
                "WHERE stream = ? AND sequence IS NULL) RETURNING LENGTH(payload)",
                (stream,),
            ).fetchall()
            if gone:
                self._grow(stream, -1, -(gone[0][0] + ROW_OVERHEAD_BYTES))
                self._change(
                    "UPDATE outbox_stream SET dropped = dropped + 1 WHERE stream = ?", (stream,)
                )
        return bool(gone)

    def drop_waiting(self, stream: Stream, name: str) -> int:
        """Delete rows of a name that never left; how many."""
        with self.transaction():
            gone = self._change(
                "DELETE FROM outbox_row WHERE stream = ? AND manifest = ? AND sequence IS NULL "
                "RETURNING LENGTH(payload)",
                (stream, name),
            ).fetchall()
            self._grow(stream, -len(gone), -sum(row[0] + ROW_OVERHEAD_BYTES for row in gone))
        return len(gone)

    def blank(self, stream: Stream, name: str) -> int:
        """Empty the rows of a name that are in flight; how many were not empty."""
        with self.transaction():
            gone = self._connection.execute(
                "SELECT LENGTH(payload) FROM outbox_row "
                "WHERE stream = ? AND manifest = ? AND LENGTH(payload) > 0",
                (stream, name),
            ).fetchall()
            self._change(
                "UPDATE outbox_row SET payload = x'' WHERE stream = ? AND manifest = ?",
                (stream, name),
            )
            self._grow(stream, 0, -sum(row[0] for row in gone))
        return len(gone)

    def count(self, stream: Stream, name: str) -> int:
        """Rows of a name that hold something, in flight or not."""
        (found,) = self._connection.execute(
            "SELECT COUNT(*) FROM outbox_row "
            "WHERE stream = ? AND manifest = ? AND LENGTH(payload) > 0",
            (stream, name),
        ).fetchone()
        return int(found)

    def mergeable(self) -> list[Mergeable]:
        """Waiting summaries in order of time."""
        return [
            Mergeable(*row)
            for row in self._connection.execute(
                "SELECT id, manifest, windows, LENGTH(payload) FROM outbox_row "
                "WHERE stream = 'summary' AND sequence IS NULL ORDER BY id"
            )
        ]

    def payload(self, row: Mergeable) -> bytes:
        """The bytes of a row."""
        (payload,) = self._connection.execute(
            "SELECT payload FROM outbox_row WHERE id = ?", (row.id,)
        ).fetchone()
        return bytes(payload)

    def replace_pair(
        self, first: Mergeable, second: Mergeable, windows: int, payload: bytes
    ) -> None:
        """Put the merged row in the first one's place."""
        with self.transaction():
            self._change("DELETE FROM outbox_row WHERE id = ?", (second.id,))
            self._change(
                "UPDATE outbox_row SET payload = ?, windows = ? WHERE id = ?",
                (payload, windows, first.id),
            )
            self._grow(
                "summary", -1, len(payload) - first.bytes - second.bytes - ROW_OVERHEAD_BYTES
            )
            self._change("UPDATE outbox_stream SET merged = merged + 1 WHERE stream = 'summary'")

    def baseline(self, manifest: str) -> bytes | None:
        """The baseline file that summaries of a manifest are encoded against."""
        row = self._connection.execute(
            "SELECT file FROM outbox_baseline WHERE manifest = ?", (manifest,)
        ).fetchone()
        return row[0] if row else None

    def has_baseline(self, manifest: str) -> bool:
        """Whether that file is kept already."""
        return bool(
            self._connection.execute(
                "SELECT 1 FROM outbox_baseline WHERE manifest = ?", (manifest,)
            ).fetchone()
        )

    def put_baseline(self, manifest: str, file: bytes) -> None:
        """Keep a baseline, and forget those that no row needs any more."""
        with self.transaction():
            self._change(
                "DELETE FROM outbox_baseline "
                "WHERE manifest NOT IN (SELECT manifest FROM outbox_row)"
            )
            self._change(
                "INSERT OR REPLACE INTO outbox_baseline (manifest, file) VALUES (?, ?)",
                (manifest, file),
            )

    def _grow(self, stream: Stream, rows: int, size: int) -> None:
        self._change(
            "UPDATE outbox_stream SET rows = rows + ?, bytes = bytes + ? WHERE stream = ?",
            (rows, size, stream),
        )
