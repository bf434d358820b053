"""The agent's one database: journal, active pointers, adopted directive, counters.

SQLite in WAL mode with ``synchronous=FULL``; one connection, used by the supervisor's thread only.
Others keep their tables on the same connection (the outbox), so that what belongs together commits
together. A database that can't be written or read never stops a model: what can still be known is
copied into memory and served from there (``State.trouble`` says so), or, when the file is damaged,
a new database is made and the pointers are read back from the ``current`` links.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from muster_agent.storage.files import sync_directory
from muster_agent.storage.rows import Adopted, JournalRow, Pointer
from muster_protocol.wire.directive import Goal

FILE = "state.db"
DAMAGED_SUFFIX = ".damaged"
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (slot TEXT PRIMARY KEY, state TEXT NOT NULL, row BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pointer (slot TEXT PRIMARY KEY, row BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS directive (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL, generation INTEGER NOT NULL, envelope BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS recording (ring TEXT PRIMARY KEY, row BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS monitor (
    slot TEXT NOT NULL, manifest TEXT NOT NULL, saved INTEGER NOT NULL,
    rebaselines INTEGER NOT NULL, monitor BLOB NOT NULL, PRIMARY KEY (slot, manifest));
"""
_TABLES = ("journal", "pointer", "directive", "counter", "recording", "monitor")
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


R = TypeVar("R", bound=Struct)


class StateDatabase:
    """Typed access to the database. Every writing method may raise sqlite3.OperationalError."""

    def __init__(self, connection: sqlite3.Connection, *, trouble: str = "") -> None:
        self.connection = connection
        self.trouble = trouble
        """Why nothing is durable; empty when all is well."""

    @property
    def durable(self) -> bool:
        """Whether what is written survives; False for the copy in memory that stands in."""
        return not self.trouble

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable on return; joins a transaction that is already open."""
        if self._open():
            yield
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self._open():
                self.connection.execute("ROLLBACK")
            raise

    def _open(self) -> bool:
        return self.connection.in_transaction

    def checkpoint(self) -> None:
        """Move the log into the database file, so that a reader without the log sees the truth."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self.connection.close()

    def journal(self) -> dict[str, JournalRow]:
        """How far each slot's update has come."""
        return self._rows("journal", "slot", JournalRow)

    def put_journal(self, slot: str, row: JournalRow) -> None:
        """Write a slot's row; joins an open transaction. Raises sqlite3.Error."""
        with self.transaction():
            self.connection.execute(
                "INSERT INTO journal (slot, state, row) VALUES (?, ?, ?) ON CONFLICT (slot) "
                "DO UPDATE SET state = excluded.state, row = excluded.row",
                (slot, row.state, msgspec.json.encode(row)),
            )

    def pointers(self) -> dict[str, Pointer]:
        """The committed version of each slot."""
        return self._rows("pointer", "slot", Pointer)

    def put_pointer(self, slot: str, pointer: Pointer) -> None:
        """Name a slot's committed version; joins an open transaction. Raises sqlite3.Error."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR REPLACE INTO pointer (slot, row) VALUES (?, ?)",
                (slot, msgspec.json.encode(pointer)),
            )

    def adopted(self) -> Adopted | None:
        """The directive in force; None before the first."""
        row = self.connection.execute(
            "SELECT epoch, generation, envelope FROM directive"
        ).fetchone()
        return Adopted(*row) if row else None

    def put_adopted(self, adopted: Adopted) -> None:
        """Put a directive in force; joins an open transaction. Raises sqlite3.Error."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR REPLACE INTO directive (one, epoch, generation, envelope) "
                "VALUES (1, ?, ?, ?)",
                (adopted.epoch, adopted.generation, adopted.envelope),
            )

    def count(self, name: str) -> int:
        """Add one to a counter and return it, 1 the first time."""
        with self.transaction():
            row = self.connection.execute(
                "INSERT INTO counter (name, value) VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (name,),
            ).fetchone()
        return int(row[0])

    def counter(self, name: str) -> int:
        """Where a counter stands; 0 before its first time."""
        row = self.connection.execute(
            "SELECT value FROM counter WHERE name = ?", (name,)
        ).fetchone()
        return int(row[0]) if row else 0

    def reach(self, name: str, value: int) -> bool:
        """Raise a counter to ``value``; False when it stood there or beyond already."""
        with self.transaction():
            done = self.connection.execute(
                "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) "
                "DO UPDATE SET value = excluded.value WHERE excluded.value > counter.value",
                (name, value),
            )
        return done.rowcount > 0

    def challenger_starts(self, slot: str, manifest: str) -> int:
        """How often in a row the slot's challenger was started and its end not seen."""
        return self.counter(f"challenger:{slot}:{manifest}")

    def challenger_begins(self, slot: str, manifest: str) -> None:
        """Count one more start, of this one alone. Raises sqlite3.Error."""
        if not self.challenger_starts(slot, manifest):
            self.challenger_survived(slot)
        self.count(f"challenger:{slot}:{manifest}")

    def challenger_survived(self, slot: str) -> None:
        """Forget the starts of a slot's challenger; nothing is written when there are none."""
        mine = (f"challenger:{slot}:",)
        found = self.connection.execute(
            "SELECT 1 FROM counter WHERE substr(name, 1, length(?1)) = ?1", mine
        )
        if found.fetchone():
            with self.transaction():
                self.connection.execute(
                    "DELETE FROM counter WHERE substr(name, 1, length(?1)) = ?1", mine
                )

    def fetched(self, day: int, more: int) -> int:
        """Add to the bytes fetched on a day, forget other days, and return that day's sum."""
        return self._on_day("fetched", day, more)

    def sent(self, day: int, more: int) -> int:
        """The same for the bytes of telemetry sent."""
        return self._on_day("sent", day, more)

    def sampled(self, day: int, more: int) -> int:
        """The same for the bytes of sampled rows sent."""
        return self._on_day("sampled", day, more)

    def _on_day(self, what: str, day: int, more: int) -> int:
        name = f"{what}:{day}"
        if more:
            with self.transaction():
                self.connection.execute(
                    "DELETE FROM counter WHERE name LIKE ? AND name <> ?", (f"{what}:%", name)
                )
                self.connection.execute(
                    "INSERT INTO counter (name, value) VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                    (name, more),
                )
        return self.counter(name)

    def monitor(self, slot: str, manifest: str) -> tuple[int, bytes] | None:
        """Rebaselines done, and the encoded drift monitor of a model in a slot."""
        row: tuple[int, bytes] | None = self.connection.execute(
            "SELECT rebaselines, monitor FROM monitor WHERE slot = ? AND manifest = ?",
            (slot, manifest),
        ).fetchone()
        return row

    def put_monitor(self, slot: str, manifest: str, rebaselines: int, monitor: bytes) -> None:
        """Keep it, and of the slot's others only the one that was saved last."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR REPLACE INTO monitor (slot, manifest, saved, rebaselines, monitor) "
                "VALUES (?, ?, (SELECT COALESCE(MAX(saved), 0) + 1 FROM monitor), ?, ?)",
                (slot, manifest, rebaselines, monitor),
            )
            self.connection.execute(
                "DELETE FROM monitor WHERE slot = ?1 AND saved NOT IN "
                "(SELECT saved FROM monitor WHERE slot = ?1 ORDER BY saved DESC LIMIT 2)",
                (slot,),
            )

    def recordings(self) -> dict[str, bytes]:
        """What is known of each ring file: cursor and open window, as its owner encodes them."""
        return dict(self.connection.execute("SELECT ring, row FROM recording").fetchall())

    def put_recording(self, ring: str, row: bytes) -> None:
        """Save how far a ring was folded, with its open window. Raises sqlite3.Error."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR REPLACE INTO recording (ring, row) VALUES (?, ?)", (ring, row)
            )

    def drop_recording(self, ring: str) -> None:
        """Forget a ring that was folded to its end. Raises sqlite3.Error."""
        with self.transaction():
            self.connection.execute("DELETE FROM recording WHERE ring = ?", (ring,))

    def _rows(self, table: str, key: str, kind: type[R]) -> dict[str, R]:
        rows = self.connection.execute(f"SELECT {key}, row FROM {table}")  # noqa: S608 - constants
        return {name: msgspec.json.decode(row, type=kind) for name, row in rows}


def open_state(directory: Path, fallback: Mapping[str, Goal]) -> StateDatabase:
    """Open ``<directory>/state.db``; ``fallback`` is what the ``current`` links say runs.

    Never raises for a database at fault: see the module's text for what it does instead.
    """
    path = directory / FILE
    try:
        return StateDatabase(_open_writable(path))
    except sqlite3.Error as error:
        reason = f"{path}: {error}"
        damaged = error.sqlite_errorcode & 0xFF in _DAMAGE
    if damaged:
        try:
            _set_aside(path)
            state = StateDatabase(_open_writable(path))
            _restore(state, fallback)
        except (sqlite3.Error, OSError) as error:
            reason += f"; it can't be replaced either: {error}"
        else:
            return state
    return _in_memory(path, fallback, reason)


def read_state(directory: Path) -> StateDatabase:
    """The database for looking only, beside a running agent. Raises sqlite3.Error."""
    return StateDatabase(_connect(f"{(directory / FILE).absolute().as_uri()}?mode=ro"))


def _open_writable(path: Path) -> sqlite3.Connection:
    connection = _connect(str(path))
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        _check(connection)
        _create(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _create(connection: sqlite3.Connection) -> None:
    # A write even when nothing changes: a database that only reads must be known now, not later.
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.strip().split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, isolation_level=None, uri=address.startswith("file:"))


def _set_aside(path: Path) -> None:
    """Keep the damaged database under another name; its log belongs to it alone."""
    path.replace(path.with_name(path.name + DAMAGED_SUFFIX))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_directory(path.parent)


def _in_memory(path: Path, fallback: Mapping[str, Goal], reason: str) -> StateDatabase:
    for options in ("mode=ro", "mode=ro&immutable=1"):
        memory = _connect(":memory:")
        _create(memory)
        try:
            with closing(_connect(f"{path.absolute().as_uri()}?{options}")) as source:
                _copy(source, memory)
        except sqlite3.Error:
            memory.close()
            continue
        return StateDatabase(memory, trouble=reason)
    memory = _connect(":memory:")
    _create(memory)
    state = StateDatabase(memory, trouble=reason)
    _restore(state, fallback)
    return state


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    for table in _TABLES:
        rows = source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - constants
        for row in rows:
            marks = ", ".join("?" * len(row))
            target.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - constants


def _restore(state: StateDatabase, fallback: Mapping[str, Goal]) -> None:
    with state.transaction():
        for slot, goal in fallback.items():
            state.put_pointer(slot, Pointer(goal))
            state.put_journal(slot, JournalRow(state="committed", goal=goal))
