"""Wakes across the processes of one hub: what one has committed, another looks at at once.

A wake carries nothing and may be lost: whoever is woken also looks by itself, a little later. So it
is sent outside of the transaction, and many in a short time are one.
"""

import logging
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from sqlalchemy import func, select

from muster_hub.heartbeats import Heartbeats
from muster_hub.storage.store import Store

if TYPE_CHECKING:
    import psycopg

Kind = Literal["heard", "changed", "decided"]
"""Devices said something; an operator or a release changed something; messages wait for the broker.
"""
CHANNEL = "muster_wake"
COALESCE_SECONDS = 0.02
LOOK_SECONDS = 1.0
CONNECT_SECONDS = 10
RETRY_SECONDS = (0.5, 5.0)
SILENT_SECONDS = 60.0

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Wakes:
    """Started, it brings what other processes ``send`` to the listeners here, by PostgreSQL."""

    def __init__(self, store: Store, me: str, *, heartbeats: Heartbeats | None = None) -> None:
        """``me`` tells the processes apart: nobody is woken by what it sent itself."""
        self._store = store
        self._me = me
        self._listeners: list[tuple[Kind, Callable[[], None]]] = []
        self._pending: set[Kind] = set()
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._stopping = threading.Event()
        beats = heartbeats or Heartbeats()
        self._hearing = beats.part("wakes", SILENT_SECONDS)
        self._sending = beats.part("wakes/sending", SILENT_SECONDS)
        self._threads = [
            threading.Thread(target=part.watching(run), name=part.name, daemon=True)
            for part, run in ((self._hearing, self._hear), (self._sending, self._send))
        ]

    def on(self, kind: Kind, listener: Callable[[], None]) -> None:
        """Have ``listener`` called for wakes of other processes; it must not block."""
        self._listeners.append((kind, listener))

    def send(self, kind: Kind) -> None:
        """Wake the other processes soon. Never blocks."""
        with self._lock:
            self._pending.add(kind)
        self._due.set()

    def start(self) -> None:
        """Begin to listen and to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; what is not sent yet others find by themselves."""
        self._stopping.set()
        self._due.set()
        for thread in self._threads:
            thread.join()

    def _hear(self) -> None:
        import psycopg  # noqa: PLC0415 - an extra, which hubs on SQLite don't have

        url = self._store.engine.url.set(drivername="postgresql")
        address = url.render_as_string(hide_password=False)
        while not self._stopping.is_set():
            try:
                with psycopg.connect(
                    address, autocommit=True, connect_timeout=CONNECT_SECONDS
                ) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._call(*(kind for kind, _ in self._listeners))  # Some may have been missed.
                    self._follow(connection)
            except psycopg.Error as error:
                self._hearing.retrying(error)
                self._stopping.wait(_random.uniform(*RETRY_SECONDS))

    def _follow(self, connection: "psycopg.Connection") -> None:
        while not self._stopping.is_set():
            for note in connection.notifies(timeout=LOOK_SECONDS):
                kind, _, sender = note.payload.partition(" ")
                if sender != self._me:
                    self._call(kind)
                if self._stopping.is_set():
                    return
            self._hearing.beat()

    def _call(self, *kinds: str) -> None:
        for kind, listener in self._listeners:
            if kind in kinds:
                listener()

    def _send(self) -> None:
        while not self._stopping.is_set():
            if not self._due.wait(LOOK_SECONDS):
                self._sending.alive()
                continue
            self._stopping.wait(COALESCE_SECONDS)
            self._due.clear()
            with self._lock:
                pending, self._pending = self._pending, set()
            try:
                with self._store.engine.begin() as connection:
                    for kind in sorted(pending):
                        connection.execute(select(func.pg_notify(CHANNEL, f"{kind} {self._me}")))
            except Exception as error:
                _log.warning("other processes could not be woken: %s", error)
                self._sending.retrying(error)
                self._stopping.wait(_random.uniform(*RETRY_SECONDS))
            else:
                self._sending.beat()
