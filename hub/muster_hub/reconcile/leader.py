"""A part that runs in one process at a time: the lease's holder runs it, the others stand by."""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from muster_hub.heartbeats import Heartbeats
from muster_hub.reconcile import lease
from muster_hub.storage.store import Store

LOOK_SECONDS = 1.0
SILENT_SECONDS = 60.0

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Startable(Protocol):
    """What runs during a term."""

    def start(self) -> None:
        """Begin, on threads of its own."""
        ...

    def stop(self) -> None:
        """End them."""
        ...


Led = TypeVar("Led", bound=Startable)


class Leader(Generic[Led]):
    """Started, it keeps asking for the lease ``role`` and runs ``make(epoch)`` while it has it.

    Each term has a part of its own, which remembers nothing of an earlier one. A term ends when
    another holder has taken over, and when the lease could not be renewed until it ended.
    """

    def __init__(
        self,
        store: Store,
        role: str,
        holder: str,
        make: Callable[[int], Led],
        *,
        clock: lease.Clock = lease.database_time,
        heartbeats: Heartbeats | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._role = role
        self._holder = holder
        self._make = make
        self._clock = clock
        self._monotonic = monotonic
        self._part = (heartbeats or Heartbeats()).part(f"{role}/lease", SILENT_SECONDS)
        self._epoch = lease.NONE
        self._renewed = float("-inf")
        self._led: Led | None = None
        self._stopping = threading.Event()
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name=f"{role}-lease", daemon=True)

    @property
    def led(self) -> Led | None:
        """What runs; None while another process leads."""
        return self._led

    @property
    def epoch(self) -> int:
        """The epoch of this term; ``lease.NONE`` while another process leads."""
        return self._epoch if self._led is not None else lease.NONE

    def start(self) -> None:
        """Lead if nobody does, else stand by; on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the term, if there is one, and let another begin at once."""
        self._stopping.set()
        self._thread.join()
        self._end()
        with self._store.write() as session:
            lease.release(session, self._role, self._epoch)

    def look(self) -> None:
        """Take, keep or renew the lease; begin or end a term accordingly."""
        began = self._monotonic()
        try:
            epoch = self._hold()
        except Exception:
            if began - self._renewed > lease.LEASE_SECONDS:
                self._end()
            raise
        if epoch != self._epoch:
            self._end()
        self._epoch = epoch
        if epoch == lease.NONE:
            return
        self._renewed = began
        if self._led is None:
            _log.info("%s is led here: epoch %d", self._role, epoch)
            led = self._make(epoch)
            led.start()
            self._led = led

    def _hold(self) -> int:
        with self._store.read() as session:
            now = self._clock(session)
            if lease.kept(session, self._role, self._holder, self._epoch, now):
                return self._epoch
        with self._store.write() as session:
            return lease.take(session, self._role, self._holder, self._epoch, self._clock(session))

    def _end(self) -> None:
        led, self._led = self._led, None
        if led is not None:
            led.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception as error:
                _log.exception("the lease of the %s could not be kept; trying again", self._role)
                self._part.retrying(error)
            else:
                self._part.beat()
            self._stopping.wait(LOOK_SECONDS * _random.uniform(0.8, 1.2))
