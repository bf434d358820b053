"""The one seam to the database: SQLite or PostgreSQL, read sessions and write transactions."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, create_engine

from muster_hub.storage import changes  # noqa: F401 - numbers what every session changes
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.turns import Turns

BUSY_TIMEOUT_MS = 10_000
POOL_CONNECTIONS = 8
POOL_OVERFLOW_CONNECTIONS = 8
SEALING = "sealing"
"""Under which a session's ``info`` has the hub's sealing key."""


class Store:
    """Sessions on one database.

    ``read()`` sees one state of the database and never writes. ``write()`` is one transaction: it
    commits when the block ends and rolls back when it raises. On SQLite it takes the write lock at
    once, so that two writers wait for each other instead of failing half-way, those of this process
    in the order they came.

    ``sealing`` is what the audit log is keyed with; a store without it can't add to that log.
    """

    def __init__(self, url: str, sealing: Sealing | None = None) -> None:
        self.engine = _engine(url)
        self._info = {SEALING: sealing}
        self._writing = self.engine.execution_options(muster_writing=True)
        self._turns = Turns() if self.engine.dialect.name == "sqlite" else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that changes nothing; on SQLite it never waits for a writer."""
        with Session(self.engine, autoflush=False, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction: committed at the end of the block, rolled back when it
        raises."""
        with (
            self._turns.mine() if self._turns is not None else nullcontext(),
            Session(self._writing, expire_on_commit=False, info=self._info) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    engine = create_engine(
        url,
        pool_size=POOL_CONNECTIONS,
        max_overflow=POOL_OVERFLOW_CONNECTIONS,
        pool_pre_ping=not url.startswith("sqlite:"),  # a file doesn't hang up
        json_serializer=_json,
        json_deserializer=_from_json,
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _from_json(text: str) -> Any:
    """What an older hub wrote may hold numbers that JSON has not, such as NaN."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Leave transactions to us and set what SQLite leaves off for history's sake."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("muster_writing", False)
    statement = "BEGIN IMMEDIATE" if writing else "BEGIN"
    raw = connection.connection.driver_connection
    assert raw is not None
    try:
        raw.execute(statement)  # not by SQLAlchemy: a tenth of the cost, at each transaction
    except sqlite3.OperationalError as error:
        raise OperationalError(statement, None, error) from error
