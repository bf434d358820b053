"""Sends what rollouts did to a collector of traces: one thread, beside everything else.

Nothing waits for it. While the collector doesn't answer it goes on from where it was, for as long
as the hub keeps the rows; what happened while the hub was down isn't traced.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from muster_hub.alerts import posting
from muster_hub.heartbeats import Heartbeats
from muster_hub.metrics import otlp, spans
from muster_hub.rollouts.tracing import Traces
from muster_hub.storage.store import Store

POLL_SECONDS = 1.0
RETRY_SECONDS_MAX = 60.0
SILENT_SECONDS = 300.0
_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Tracer:
    """Exports while started."""

    def __init__(
        self,
        store: Store,
        traces: Traces,
        endpoint: str,
        instance: str,
        *,
        now: Callable[[], float] = time.time,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        self._store = store
        self._traces = traces
        self._url = endpoint.rstrip("/") + otlp.PATH
        self._instance = instance
        self._now = now
        self._cursor: spans.Cursor | None = None
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("traces", SILENT_SECONDS)
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin with what happens from now on."""
        self.send_due()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it has in hand."""
        self._stopping.set()
        self._thread.join()

    def send_due(self) -> int:
        """Send what came since the last time; how many spans. Raises posting.DeliveryRefused or
        one of posting.FAILURES, and then sends the same again next time."""
        with self._store.read() as session:
            if self._cursor is None:
                self._cursor = spans.newest(session, self._now())
                return 0
            found, cursor = spans.read(session, self._traces, self._cursor)
        if found:
            posting.post(self._url, otlp.body_of(found, self._instance), {})
        self._cursor = cursor
        return len(found)

    def _run(self) -> None:
        pause = POLL_SECONDS
        while not self._stopping.wait(pause * _random.uniform(0.8, 1.2)):
            try:
                self.send_due()
            except (posting.DeliveryRefused, *posting.FAILURES) as error:
                _log.warning("traces wait: %s", posting.fault_of(error))
                pause = min(2 * pause, RETRY_SECONDS_MAX)
                self._part.alive()  # A collector that is away is no fault of the hub's.
            else:
                pause = POLL_SECONDS
                self._part.beat()
