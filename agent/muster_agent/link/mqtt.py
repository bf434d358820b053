"""The link over MQTT: the policy of making connections, one after the other.

One thread makes a connection, serves it until it ends, reports why, waits a jittered while and
makes the next. Subscriptions are remembered here and asked for again on each.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from muster_agent.identity.renewal import Renewal
from muster_agent.link.connection import BrokerConnection, ConnectionLost, MqttSettings
from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message
from muster_agent.trust.time import Instant
from muster_protocol.wire.contact import BrokerAddress

__all__ = ["MqttLink", "MqttSettings", "backoff"]

STEADY_SECONDS = 30.0
"""A connection that lasted this long starts the backoff anew."""


def backoff(attempt: int, least: float, most: float, fraction: float) -> float:
    """Seconds to wait before the attempt: doubling, jittered over the upper half by ``fraction``.

    Jitter keeps a fleet that lost its broker from coming back as one wave.
    """
    ceiling = min(most, least * 2.0 ** min(attempt, 16))
    return ceiling * (0.5 + 0.5 * fraction)


class MqttLink:
    """Follows ``muster_agent.link.link.Link``. Events are delivered on the link's own thread."""

    def __init__(
        self,
        settings: MqttSettings,
        will: tuple[str, bytes],
        deliver: Callable[[LinkEvent], None],
        now: Callable[[], Instant],
        renewal: Renewal | None = None,
        brokers: Callable[[], Sequence[BrokerAddress]] | None = None,
    ) -> None:
        """``now`` is trusted time, by which the broker's certificate is judged. ``renewal`` keeps
        this device's own certificate fresh; without it the files in ``settings`` stay in use.
        ``brokers`` are tried in their order; without it there is the one in ``settings``.
        """
        self._renewal = renewal
        self._brokers = brokers or (lambda: [BrokerAddress(settings.host, settings.port)])
        self._settings = settings
        self._will = will
        self._deliver = deliver
        self._now = now
        self._lock = threading.Lock()
        self._topics: dict[str, None] = {}
        self._connection: BrokerConnection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt-link", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._connection is not None:
                self._connection.wake()
        # The thread may be held up in ``deliver`` by the very caller who stops us: don't wait on.
        self._thread.join(timeout=5.0)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        with self._lock:
            connection = self._connection
        return connection is not None and connection.submit(topic, payload, retain=retain)

    def subscribe(self, *topics: str) -> None:
        with self._lock:
            self._topics.update(dict.fromkeys(topics))
            if self._connection is not None:
                self._connection.ask(topics, follow=True)

    def unsubscribe(self, *topics: str) -> None:
        with self._lock:
            for topic in topics:
                self._topics.pop(topic, None)
            if self._connection is not None:
                self._connection.ask(topics, follow=False)

    def received_bytes(self) -> int:
        with self._lock:
            connection = self._connection
        return 0 if connection is None else connection.received_bytes()

    def _run(self) -> None:
        attempt = turn = 0
        unreached: list[str] = []
        while not self._stopping.is_set():
            brokers = self._brokers()
            settings = self._identified(brokers[turn % len(brokers)])
            connection = BrokerConnection(settings, self._will, self._hear, self._up)
            reason = ""
            try:
                connection.open(self._now())
                connection.serve(self._leaving, self._ask_for_certificate)
                reason = "" if self._stopping.is_set() else "a renewed certificate is to be tried"
            except ConnectionLost as lost:
                reason = str(lost)
            finally:
                with self._lock:
                    self._connection = None
                connection.close()
            if self._renewal is not None and connection.never_connected and reason:
                self._renewal.failed(reason, time.monotonic())
            if connection.never_connected and reason:
                turn += 1
                unreached.append(reason)
                # Nobody needs to know of an address while there is another one to try.
                reason = "" if turn % len(brokers) else "; ".join(unreached)
            if reason:
                unreached.clear()
                self._deliver(Disconnected(reason))
            if self._leaving():
                continue  # The address that let us in is the one to try a new certificate at.
            if not connection.never_connected:
                turn = 0
                unreached.clear()
            attempt = 0 if connection.lasted_seconds() >= STEADY_SECONDS else attempt + 1
            # Jitter needs no secrecy.
            fraction = random.random()  # noqa: S311 - jitter, no secret
            settings = self._settings
            self._stopping.wait(
                backoff(
                    (attempt - 1) // len(brokers),
                    settings.backoff_seconds_min,
                    settings.backoff_seconds_max,
                    fraction,
                )
            )

    def _identified(self, broker: BrokerAddress) -> MqttSettings:
        """The settings for this broker, with the identity to be shown next."""
        settings = replace(self._settings, host=broker.host, port=broker.port)
        if self._renewal is None:
            return settings
        key, cert = self._renewal.begin()
        return replace(settings, key=key, cert=cert)

    def _leaving(self) -> bool:
        return self._stopping.is_set() or (self._renewal is not None and self._renewal.ready)

    def _hear(self, event: LinkEvent) -> None:
        """Certificates are the link's own affair; everything else is delivered."""
        renewal = self._renewal
        if renewal is not None and isinstance(event, Message) and event.topic == renewal.topic:
            renewal.answered(event.payload)
        else:
            self._deliver(event)

    def _ask_for_certificate(self) -> None:
        question = self._renewal.question(time.monotonic()) if self._renewal is not None else None
        if question is not None:
            self.publish(*question)

    def _up(self, connection: BrokerConnection) -> None:
        """CONNACK came: ask for everything again, then let others publish."""
        if self._renewal is not None:
            self._renewal.connected()
        with self._lock:
            self._connection = connection
            own = [] if self._renewal is None else [self._renewal.topic]
            connection.subscribe([*self._topics, *own])
        self._deliver(Connected())
