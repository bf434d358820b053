"""From the workers' rings to the outbox: every row is folded once, whatever dies when.

Each worker has a ring file. Its rows are folded into an open window about once a second. Cursor
and open window are saved together every few seconds, and always in the transaction that puts a
closed window into the outbox; after a crash the rows since the saved cursor are still in the ring.
A power cut may take the ring: then those rows are lost, and what was saved is counted.
"""

import contextlib
import logging
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from muster_agent.storage.state import StateDatabase
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import MusterError
from muster_protocol.wire.messages import Stamp

log = logging.getLogger(__name__)
FOLD_SECONDS = 1.0
BUSY_FOLD_SECONDS = 0.1
"""While rings fill by more than a tenth between two looks."""
SAVE_SECONDS = 5.0
LAST_SUFFIX = ".last"
"""Of the ring a slot's last worker left, kept for a fallback that repeats its last answer."""
READ_ROWS = 4096
_JITTER = 0.1


class ReadResult(Protocol):
    """Rows that were read from a ring, and where to read on."""

    @property
    def rows(self) -> Any:  # a numpy structured array; numpy is not needed here
        """The rows, in order."""
        ...

    @property
    def cursor(self) -> int:
        """Where to read on."""
        ...

    @property
    def overrun(self) -> int:
        """Rows that the worker overwrote before they were read."""
        ...


class Ring(Protocol):
    """A worker's ring file, as the supervisor reads it."""

    capacity_rows: int

    def read(self, cursor: int = 0, rows_max: int = READ_ROWS) -> ReadResult:
        """Published rows from ``cursor`` on, at most ``rows_max``."""
        ...

    def close(self) -> None:
        """Let the file go; it stays on the disk."""
        ...


class Fold(Protocol):
    """An open window (``observe.fold.Fold``)."""

    @property
    def empty(self) -> bool:
        """Nothing was counted in this window yet."""
        ...

    def feed(self, rows: Any, overrun: int = 0) -> None:
        """Count rows of the ring; ``overrun`` rows before them were lost."""
        ...

    def recall(self, rows: Any) -> None:
        """Remember rows of an earlier window whose labels may still come."""
        ...

    def add_cpu(self, seconds: float, joules: float) -> None:
        """Add processor time and its energy."""
        ...

    def close(self, stamp: Stamp) -> list[Any]:
        """End the window: its summaries, and begin the next."""
        ...

    def committed(self) -> None:
        """What ``close`` gave is durable: side effects may follow."""
        ...

    def save(self) -> bytes:
        """The open window as bytes, for the transaction that moves the cursor."""
        ...

    def restore(self, saved: bytes) -> None:
        """Go on with a window that ``save`` gave."""
        ...


class Folds(Protocol):
    """Opens rings and makes folds for them; ``observing.Folds`` is the real one."""

    def ring(self, path: Path) -> Ring:
        """Open a ring file; raises OSError and RingError."""
        ...

    def manifests(self, goals: Iterable[Goal]) -> list[bytes]:
        """Those that are here: what a ring needs to be counted."""
        ...

    def fold(
        self, slot: str, goal: Goal, opened: Stamp, kept: Mapping[str, bytes] | None = None
    ) -> Fold:
        """Begin a window of a slot's champion; with ``kept`` manifests even of one that is gone."""
        ...

    def pairs(
        self,
        champion: Goal,
        challenger: Goal,
        opened: Stamp,
        kept: Mapping[str, bytes] | None = None,
    ) -> Fold:
        """Begin a window of comparisons between champion and challenger."""
        ...


class Recording(Struct, frozen=True):
    """What is saved of one ring."""

    slot: str
    goal: Goal
    cursor: int = 0
    fold: bytes = b""
    keep: bool = False
    """A later worker's fallback may want this ring's last answer."""
    boot: bytes = b""
    """Answers of an earlier boot have no age any more."""
    champion: Goal | None = None
    """Whose answers a challenger's ring holds beside its own."""


class _NoRows(NamedTuple):
    rows: tuple[()]
    cursor: int
    overrun: int = 0


class _GoneRing:
    """In place of a ring file that the power took, or that can't be read: nothing more comes."""

    capacity_rows = 1

    def read(self, cursor: int = 0, rows_max: int = READ_ROWS) -> _NoRows:  # noqa: ARG002 - as Ring
        return _NoRows((), cursor)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class _Open:
    path: Path
    recording: Recording
    ring: Ring
    fold: Fold
    saved_cursor: int
    saved_at: float
    cpu_seconds: float = 0.0
    """Of the worker, as last told."""
    damaged: bool = False
    """Its writer left something that can't be read."""


class Telemetry:
    """Rings by worker id. ``put`` takes closed windows into the outbox, joining a transaction."""

    def __init__(
        self,
        rings: Path,
        *,
        state: StateDatabase,
        folds: Folds,
        put: Callable[[Any], None],
        stamp: Callable[[], Stamp],
        rng: random.Random,
        window_seconds: float,
        now: float,
        fold_seconds: float = FOLD_SECONDS,
        joules_per_cpu_second: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._rings = rings
        self._fold_seconds = fold_seconds
        self._state = state
        self._folds = folds
        self._put = put
        self._joules_per_cpu_second = joules_per_cpu_second
        self._stamp = stamp
        self._rng = rng
        self.window_seconds = window_seconds
        self._open: dict[str, _Open] = {}
        self._ended: set[str] = set()
        """Workers that are gone while their last window could not be committed yet."""
        self._fold_at = now
        # Devices that start together must not send together.
        self._close_at = now + window_seconds * rng.uniform(0.5, 1.0)

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        return min(self._fold_at, self._close_at) if self._open else float("inf")

    def set_window(self, seconds: float, now: float) -> None:
        """The directive's window length; the open window is shortened if need be."""
        if seconds != self.window_seconds:
            self.window_seconds = seconds
            self._close_at = min(self._close_at, now + seconds * self._rng.uniform(0.5, 1.0))

    def ring_path(self, worker_id: str) -> Path:
        """Where a worker's ring file lies."""
        return self._rings / f"{worker_id}.ring"

    def previous_ring(self, slot: str) -> Path | None:
        """Where the slot's last answer may be found: a ring of this boot, or None."""
        for opened in reversed(self._open.values()):
            if opened.recording.slot == slot and opened.recording.keep and opened.recording.cursor:
                return opened.path
        last = self._last_ring(slot)
        return last if last.exists() else None

    def begin(
        self,
        worker_id: str,
        slot: str,
        goal: Goal,
        now: float,
        *,
        keep: bool = False,
        champion: Goal | None = None,
    ) -> None:
        """A worker's ring has been made: follow it. ``keep`` it after its end for a fallback.

        ``champion`` is given for a challenger's ring.
        """
        recording = Recording(slot, goal, keep=keep, boot=self._stamp().boot, champion=champion)
        with contextlib.suppress(sqlite3.Error):
            # A full disk keeps no model from serving; the first save writes this again.
            self._state.put_recording(worker_id, msgspec.msgpack.encode(recording))
        self._follow(worker_id, recording, now)
        # Not flushed: like the ring. A bundle that rots is removed, whose rows wait to be counted.
        with contextlib.suppress(OSError):
            self._rings.mkdir(parents=True, exist_ok=True)
            found = self._folds.manifests([goal] if champion is None else [goal, champion])
            self._manifests(worker_id).write_bytes(msgspec.msgpack.encode(found))

    def used_cpu(self, worker_id: str, seconds: float) -> None:
        """``seconds`` is all the processor time that the worker has used until now."""
        opened = self._open.get(worker_id)
        if opened is not None and seconds > opened.cpu_seconds:
            more = seconds - opened.cpu_seconds
            opened.cpu_seconds = seconds
            opened.fold.add_cpu(more, more * self._joules_per_cpu_second())

    def end(self, worker_id: str) -> None:
        """The worker is gone: fold what it left, close its window, forget the ring.

        Never raises for a disk that takes nothing now: a later tick, or the next start, does it.
        """
        if worker_id in self._open:
            self._ended.add(worker_id)
            with contextlib.suppress(sqlite3.Error):
                self._finish(worker_id)

    def _finish(self, worker_id: str) -> None:
        opened = self._open[worker_id]
        self._read(opened)
        with self._closing(opened):
            self._close_window(opened)
            self._state.drop_recording(worker_id)
        self._ended.discard(worker_id)
        del self._open[worker_id]
        opened.ring.close()
        self._manifests(worker_id).unlink(missing_ok=True)
        recording = opened.recording
        if recording.keep and recording.cursor and recording.boot == self._stamp().boot:
            opened.path.replace(self._last_ring(recording.slot))
        else:
            opened.path.unlink(missing_ok=True)

    def recover(self, now: float) -> list[str]:
        """At start: fold the rings that workers of an earlier run left; one line for each fault."""
        faults = []
        saved = self._state.recordings()
        for worker_id, row in saved.items():
            try:
                recording = msgspec.msgpack.decode(row, type=Recording)
                lost = self._follow(worker_id, recording, now, self._kept(worker_id))
                faults += [] if lost is None else [lost]
                self.end(worker_id)
            except (OSError, ValueError, MusterError) as error:
                faults.append(f"{self.ring_path(worker_id)}: {error}: its open window is lost")
                self._open.pop(worker_id, None)
                # A disk that takes nothing now must not keep models from serving.
                with contextlib.suppress(sqlite3.Error):
                    self._state.drop_recording(worker_id)
        waiting = {opened.path for opened in self._open.values()}
        waiting |= {self._manifests(worker_id) for worker_id in self._open}
        if self._rings.is_dir():
            for path in self._rings.iterdir():
                if path not in waiting and not path.name.endswith(self._last_suffix()):
                    path.unlink()
        return faults

    def _manifests(self, worker_id: str) -> Path:
        """What is needed to count a worker's ring, beside it."""
        return self._rings / f"{worker_id}.manifests"

    def _kept(self, worker_id: str) -> dict[str, bytes]:
        """By hash; what the power took or altered is not among them."""
        try:
            data = self._manifests(worker_id).read_bytes()
            found = msgspec.msgpack.decode(data, type=list[bytes])
        except (OSError, msgspec.DecodeError):
            found = []
        return {sha256_hex(each): each for each in found}

    def _last_ring(self, slot: str) -> Path:
        return self._rings / (slot + self._last_suffix())

    def _last_suffix(self) -> str:
        return f".{self._stamp().boot.hex()}{LAST_SUFFIX}"

    def tick(self, now: float, accepting: AbstractSet[str] = frozenset()) -> None:
        """``accepting`` workers are told of by a window even when nobody asked them anything."""
        if now >= self._close_at:
            self.close_windows(now, accepting)
        elif now >= self._fold_at:
            pause = self._fold_seconds
            for worker_id, opened in self._open.items():
                if self._read(opened) > opened.ring.capacity_rows // 10:
                    pause = BUSY_FOLD_SECONDS
                behind = opened.recording.cursor - opened.saved_cursor
                due = now >= opened.saved_at + SAVE_SECONDS
                if behind > opened.ring.capacity_rows // 4 or (behind and due):
                    self._save(worker_id, opened, now)
            self._fold_at = now + pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
            for worker_id in sorted(self._ended):
                self._finish(worker_id)

    def close_windows(self, now: float, accepting: AbstractSet[str] = frozenset()) -> None:
        """Close every open window into the outbox.

        An idle window of a serving worker goes too, without features: to the hub a window that
        doesn't come is evidence of harm. Idle windows of others leave nothing.
        """
        self._close_at = now + self.window_seconds * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        for worker_id, opened in self._open.items():
            self._read(opened)
            with self._closing(opened):
                self._close_window(opened, idle_too=worker_id in accepting)
                self._save(worker_id, opened, now)

    @contextlib.contextmanager
    def _closing(self, opened: _Open) -> Iterator[None]:
        """A transaction; when it can't be committed, what the window held is in it still."""
        held = opened.fold.save()
        try:
            with self._state.transaction():
                yield
        except BaseException:
            opened.fold.restore(held)
            raise
        opened.fold.committed()

    def _close_window(self, opened: _Open, *, idle_too: bool = False) -> None:
        if idle_too or not opened.fold.empty:
            for summary in opened.fold.close(self._stamp()):
                self._put(summary)

    def _follow(
        self,
        worker_id: str,
        recording: Recording,
        now: float,
        kept: Mapping[str, bytes] | None = None,
    ) -> str | None:
        """What was lost of it, if anything was. ``kept``: manifests, of a ring that was left."""
        path = self.ring_path(worker_id)
        lost = None
        try:
            ring = self._folds.ring(path)
        except (OSError, MusterError) as error:
            if not recording.fold:
                raise
            # What had been counted when the power went is counted, whatever became of the ring.
            lost = f"{path}: {error}: what came within {SAVE_SECONDS:g} s of its end is lost"
            ring = _GoneRing()
            recording = msgspec.structs.replace(recording, keep=False)
        opened = self._stamp()
        if recording.champion is not None:
            fold = self._folds.pairs(recording.champion, recording.goal, opened, kept)
        else:
            fold = self._folds.fold(recording.slot, recording.goal, opened, kept)
        if recording.fold:
            fold.restore(recording.fold)
        self._recall(ring, fold, recording.cursor)
        self._open[worker_id] = _Open(path, recording, ring, fold, recording.cursor, now)
        return lost

    def _recall(self, ring: Ring, fold: Fold, end: int) -> None:
        """Rows counted before a restart, for the labels still to come."""
        cursor = 0
        while cursor < end:
            result = ring.read(cursor, min(READ_ROWS, end - cursor))
            if not cursor < result.cursor <= end:
                break
            fold.recall(result.rows)
            cursor = result.cursor

    def _read(self, opened: _Open) -> int:
        """Fold what is new; returns how many rows that were.

        A ring is written by a model's process. What it damaged is read no further, and said once.
        """
        if opened.damaged:
            return 0
        try:
            return self._read_on(opened)
        except (MusterError, ValueError, OverflowError) as error:
            opened.damaged = True
            log.warning("%s: %s: read no further", opened.path, error)
            return 0

    def _read_on(self, opened: _Open) -> int:
        cursor = opened.recording.cursor
        # Bounded: a worker that writes faster than this can be read is caught up with next time.
        for _ in range(2 + opened.ring.capacity_rows // READ_ROWS):
            result = opened.ring.read(cursor, READ_ROWS)
            if result.cursor == cursor:
                break
            opened.fold.feed(result.rows, result.overrun)
            cursor = result.cursor
        read = cursor - opened.recording.cursor
        opened.recording = msgspec.structs.replace(opened.recording, cursor=cursor)
        return read

    def _save(self, worker_id: str, opened: _Open, now: float) -> None:
        opened.recording = msgspec.structs.replace(opened.recording, fold=opened.fold.save())
        self._state.put_recording(worker_id, msgspec.msgpack.encode(opened.recording))
        opened.saved_cursor = opened.recording.cursor
        opened.saved_at = now

    def close(self) -> None:
        """Forget the rings without closing windows; a later ``recover`` takes them up."""
        for opened in self._open.values():
            with contextlib.suppress(OSError):
                opened.ring.close()
        self._open.clear()
