"""Which processes are one hub: each enters itself in the database, and shows that it shares the
directory.

Processes that work on one database must have one catalogue, one set of keys, one store of chunks.
So each keeps a file in the hub's directory for as long as it lives, and counts in it and in its
row alike. Who starts looks for the files of those that live already: one that isn't there, or that
lags behind its row, lies in another directory, or in a copy.
"""

import fcntl
import logging
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlmodel import Session, col, delete, select

from muster_hub.errors import Conflict
from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.broker_config import INGESTS_MAX
from muster_hub.reconcile import lease
from muster_hub.settings.parts import EVERY, Part, words
from muster_hub.storage.files import make_private_directory
from muster_hub.storage.processes import Process
from muster_hub.storage.store import Store

DIRECTORY = "processes"
BEAT_SECONDS = 5.0
FRESH_SECONDS = 3 * BEAT_SECONDS
"""What a process said of itself longer ago tells nothing about now."""
GONE_SECONDS = 20.0
"""One unheard of for so long is taken for dead, where its file can't tell."""
SILENT_SECONDS = 60.0
_LOCK = 0x6D757370

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Registration:
    """``enter`` before anything else is started; then, started, it says that the process lives.

    ``lost`` is called when others have taken this process for dead and have its place. ``chores``
    are done at every beat.
    """

    def __init__(
        self,
        store: Store,
        data: Path,
        parts: frozenset[Part],
        *,
        lost: Callable[[], None],
        heartbeats: Heartbeats | None = None,
        clock: lease.Clock = lease.database_time,
    ) -> None:
        self._store = store
        self._directory = data / DIRECTORY
        self._lost = lost
        self._clock = clock
        self._file: int | None = None
        self._row = Process(
            id=secrets.token_hex(8),
            parts=words(parts),
            host=socket.gethostname(),
            directory=str(data.resolve()),
            began=0.0,
            seen=0.0,
        )
        self._parts = parts
        self.chores: list[Callable[[], None]] = []
        self.listening_seconds: Callable[[], float] = lambda: 0.0
        """For how long this process has heard all that devices said, when it takes that in."""
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("process", SILENT_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="process", daemon=True)

    @property
    def name(self) -> str:
        """Of this process, as leases are held by it."""
        return f"{self._row.host}:{self._row.id}"

    @property
    def id(self) -> str:
        """Of this process alone."""
        return self._row.id

    @property
    def number(self) -> int:
        """Of this process among those that take in what devices say; 0 when it doesn't."""
        return self._row.ingest or 0

    def others(self, session: Session) -> list[str]:
        """Names of the hub's other processes."""
        rows = session.exec(select(Process.host, Process.id).where(col(Process.id) != self.id))
        return [f"{host}:{number}" for host, number in rows]

    def enter(self) -> None:
        """Become one of the hub's processes. Raises Conflict when it can't be one, saying why."""
        make_private_directory(self._directory)
        path = self._directory / self._row.id
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            with self._store.write() as session:
                self._insert(session)
        except BaseException:
            self._let_go()
            raise

    def start(self) -> None:
        """Begin to tell that it lives, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave nothing behind."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._store.write() as session:
            session.exec(delete(Process).where(col(Process.id) == self._row.id))
        self._let_go()

    def beat(self) -> None:
        """Say that this process lives; calls ``lost`` when it has no place any more."""
        self._count()
        with self._store.write() as session:
            held = session.get(Process, self._row.id)
            if held is not None:
                held.sqlmodel_update(
                    {
                        "seen": self._clock(session),
                        "beats": self._row.beats,
                        "listening_seconds": min(self.listening_seconds(), 1e9),
                    }
                )
                return
        try:
            with self._store.write() as session:
                self._insert(session)
        except Conflict as conflict:
            _log.critical("this process was taken for dead and can't go on: %s", conflict)
            self._lost()

    def _insert(self, session: Session) -> None:
        if session.get_bind().dialect.name == "postgresql":
            session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        now = self._clock(session)
        others = []
        for row in session.exec(select(Process)):
            if now - row.seen > GONE_SECONDS or self._is_dead(row):
                session.delete(row)
                (self._directory / row.id).unlink(missing_ok=True)
                continue
            others.append(row)
            if not self._shares(row):
                raise Conflict(
                    f"another hub works on this database: {row.parts} in {row.directory} on "
                    f"{row.host}. Processes of one hub share one directory; stop it first "
                    f"(one that was killed is forgotten after {GONE_SECONDS:.0f} s), or use "
                    "another database"
                )
            if EVERY in (self._parts, frozenset(row.parts.split(","))) or row.parts == "all":
                raise Conflict(
                    f"a hub is already running on this database: {row.parts} on {row.host}. "
                    "Stop it first, or give each process a --role of its own"
                )
        session.flush()  # Names of the dead are free before one is taken.
        self._row = Process(
            **self._row.model_dump()
            | {"seen": now, "began": now, "ingest": self._place(others), "beats": self._row.beats}
        )
        self._count()
        session.add(Process(**self._row.model_dump()))

    def _place(self, others: list[Process]) -> int | None:
        if "ingest" not in self._parts:
            return None
        taken = {row.ingest for row in others}
        wanted = self._row.ingest
        if wanted is not None:
            if wanted in taken:
                raise Conflict("another process has its name at the broker")
            return wanted
        free = [number for number in range(1, INGESTS_MAX + 1) if number not in taken]
        if not free:
            raise Conflict(f"{INGESTS_MAX} processes take in what devices say already: no more can")
        return free[0]

    def _is_dead(self, row: Process) -> bool:
        """Whether a process of this machine has let go of its file, so has ended."""
        if row.host != self._row.host or row.id == self._row.id:
            return False
        try:
            descriptor = os.open(self._directory / row.id, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return self._shares(row)
        finally:
            os.close(descriptor)

    def _shares(self, row: Process) -> bool:
        """Whether a process works in this very directory: its count here is as high as there."""
        try:
            return int((self._directory / row.id).read_text()) >= row.beats
        except (OSError, ValueError):
            return False

    def _count(self) -> None:
        assert self._file is not None, "not entered"
        self._row.beats += 1
        os.pwrite(self._file, f"{self._row.beats}\n".encode(), 0)

    def _let_go(self) -> None:
        if self._file is not None:
            (self._directory / self._row.id).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS * _random.uniform(0.8, 1.0)):
            try:
                self.beat()
                for chore in self.chores:
                    chore()
            except Exception as error:
                _log.exception("this process could not say that it lives; trying again")
                self._part.retrying(error)
            else:
                self._part.beat()


def listening_seconds(store: Store, clock: lease.Clock = lease.database_time) -> float:
    """For how long all that devices said has been heard by the processes that take it in."""
    with store.read() as session:
        now = clock(session)
        rows = session.exec(select(Process).where(col(Process.ingest).is_not(None))).all()
    heard = [row.listening_seconds for row in rows if now - row.seen < FRESH_SECONDS]
    return min(heard, default=0.0)
