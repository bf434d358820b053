"""Take in what devices say: network thread → inbox → writer → commit → acknowledge.

A message is acknowledged to the broker only after its rows are committed, and to the device with
the highest sequence that is committed without a gap. What is lost on the way, by a crash, the
device sends again. When more comes than is written the inbox fills and holds the broker back; only
a report that a newer one of its device has replaced is let go.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from muster_hub.courtesy import COURTESY
from muster_hub.fleet.set_aside import MessageFault
from muster_hub.heartbeats import Heartbeats, described
from muster_hub.mqtt.broker_config import INGEST_USERS
from muster_hub.mqtt.client import BrokerAddress, Delivery, HubClient
from muster_hub.mqtt.inbox import Inbox
from muster_hub.mqtt.intake import Counters, Intake
from muster_hub.storage.store import Store
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Shown

_log = logging.getLogger(__name__)
_random = random.SystemRandom()
GROUP = "$share/ingest/"
"""Before a filter: each message goes to one of those that subscribe so."""
SESSION_SECONDS = 3600
BATCH_MESSAGES = (500, 2_000)
"""In one transaction: usually at most, and when more waits."""
BATCH_SECONDS = 0.005
LAG_SECONDS = 5.0
"""A message that waits longer than this means that more comes than is written."""
SILENT_SECONDS = 30.0
"""A writer unheard of for so long hangs: it tells at every batch, every wait and every retry."""
FAILED_SECONDS = 1.0


class Ingest:
    """Started, it writes to the store what devices publish.

    ``on_want(device, chunks, last_resort)``, ``on_renewal(device, request)`` and ``on_change()``
    (something was committed) run on the writer. With a ``number`` it is one of several processes,
    numbered from 1, that share what comes; what one has in hand when it dies its devices send
    again.
    """

    def __init__(
        self,
        store: Store,
        address: BrokerAddress,
        *,
        on_want: Callable[[str, tuple[str, ...], bool], None],
        on_change: Callable[[], None],
        on_renewal: Callable[[str, str], None] = lambda _device, _request: None,
        on_shown: Callable[[str, Shown], None] = lambda _device, _shown: None,
        now: Callable[[], float] = time.time,
        heartbeats: Heartbeats | None = None,
        inbox: Inbox | None = None,
        number: int = 0,
    ) -> None:
        self._on_want = on_want
        self._on_change = on_change
        self._on_renewal = on_renewal
        self._on_shown = on_shown
        self._now = now
        self.inbox = inbox or Inbox()
        self._listening_since: float | None = None
        self._stopping = threading.Event()
        self._part = (heartbeats or Heartbeats()).part("ingest", SILENT_SECONDS)
        self._intake = Intake(store, self._stopping.wait, self._part, now)
        self._shares = bool(number)
        self.client = HubClient(
            address,
            INGEST_USERS[max(number, 1) - 1],
            # A session that outlives its process would go on to take its share.
            session_seconds=0 if self._shares else SESSION_SECONDS,
            on_message=self._arrived,
        )
        self._writer = threading.Thread(
            target=self._part.watching(self._write), name="ingest", daemon=True
        )

    @property
    def counters(self) -> Counters:
        """What came in and what became of it."""
        return self._intake.counters

    def health(self) -> dict[str, Any]:
        """For ``GET /health``: counts since the start, and who sent what was set aside last."""
        return {
            "ok": not self._lagging(),
            "detail": self._lagging(),
            "waiting": self.inbox.waiting,
            "lag_seconds": round(self.inbox.lag_seconds, 1),
            "senders": self._intake.senders.latest(),
            **vars(self.counters),
        }

    def _lagging(self) -> str:
        """What there is to say of more that comes than is written; empty: nothing."""
        lag = self.inbox.lag_seconds
        if lag < LAG_SECONDS and not self.inbox.blocked:
            return ""
        held = "; the broker is held back" if self.inbox.blocked else ""
        return (
            f"more comes than is written: {self.inbox.waiting} messages wait, the oldest for "
            f"{lag:.0f} s{held}"
        )

    def start(self) -> None:
        """Begin to write, then to receive."""
        self._writer.start()
        self.client.subscribe(*self._filters())
        self.client.start()

    def _filters(self) -> list[str]:
        """What is retained is sent to those only that don't share."""
        return [
            (GROUP if self._shares and leaf != "presence" else "") + topics.up_all(leaf)
            for leaf in topics.UP_LEAVES
        ]

    def stop(self) -> None:
        """Commit what has come, acknowledge it, then disconnect."""
        self._stopping.set()
        self.inbox.close()
        self._writer.join()
        self.client.stop()

    def _arrived(self, delivery: Delivery) -> None:
        COURTESY.give_way()
        replaced = self.inbox.put(delivery)
        if replaced is not None:
            self.counters.replaced += 1
            self.client.acknowledge(replaced)

    def _write(self) -> None:
        while True:
            usual, most = BATCH_MESSAGES
            many = most if self.inbox.waiting > usual else usual
            deliveries = self.inbox.take(many, 0.2, BATCH_SECONDS)
            if deliveries:
                self._take(deliveries)
            elif self._stopping.is_set():
                return
            else:
                self._part.alive()
            self._say()

    def listening_seconds(self) -> float:
        """For how long all that devices said has been heard and soon committed, without a break."""
        since = self._listening_since
        return 0.0 if since is None else time.monotonic() - since

    def _say(self) -> None:
        lagging = self._lagging()
        if lagging or not self.client.connected:
            self._listening_since = None
        elif self._listening_since is None:
            self._listening_since = time.monotonic()
        if lagging:
            self._part.lagging(lagging)
        elif self._part.standing().state == "lagging":
            self._part.beat()

    def _take(self, deliveries: list[Delivery]) -> None:
        """Process a batch; what fails in it is lost to the broker, and its senders send again."""
        try:
            self._process(deliveries)
        except Exception as error:
            _log.exception("ingest failed at %d messages", len(deliveries))
            self._part.retrying(error)
            for delivery in deliveries:
                self.client.acknowledge(delivery)
            self._stopping.wait(FAILED_SECONDS * _random.uniform(0.5, 1.0))

    def _process(self, deliveries: list[Delivery]) -> None:
        taken = self._intake.take(
            [(delivery.topic, delivery.payload) for delivery in deliveries], self._now()
        )
        if taken is None:
            return
        for delivery in deliveries:
            COURTESY.give_way()
            self.client.acknowledge(delivery)
        for device, ack in taken.acks:
            COURTESY.give_way()
            self.client.publish(topics.down(device, "ack"), messages.encode(ack))
        for wanted in taken.wants:
            self._on_want(wanted.device, wanted.chunks, wanted.last_resort)
        for asked in taken.renewals:
            self._answer(
                asked.device, "csr", partial(self._on_renewal, asked.device, asked.csr_pem)
            )
        for item in taken.shown:
            self._answer(item.device, "shown", partial(self._on_shown, item.device, item.shown))
        self._on_change()

    def _answer(self, device: str, leaf: topics.UpLeaf, answer: Callable[[], None]) -> None:
        """What fails in what one device asks for is recorded under it; it asks again later."""
        try:
            answer()
        except Exception as error:
            _log.warning("%s of %s failed", leaf, device, exc_info=error)
            self._intake.refuse(MessageFault(device, leaf, described(error)), self._now())
