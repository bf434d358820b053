"""The link over MQTT: the policy of making connections, one after the other.

One thread makes a connection, serves it until it ends, reports why, waits a jittered while and
makes the next. Subscriptions are remembered here and asked for again on each.
"""

import random
import threading
from collections.abc import Callable

from muster_agent.link import Connected, Disconnected, LinkEvent
from muster_agent.mqtt_connection import Connection, ConnectionLost, MqttSettings
from muster_agent.trusted_time import Instant

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
    """Follows ``muster_agent.link.Link``. Events are delivered on the link's own thread."""

    def __init__(
        self,
        settings: MqttSettings,
        will: tuple[str, bytes],
        deliver: Callable[[LinkEvent], None],
        now: Callable[[], Instant],
    ) -> None:
        """``now`` is trusted time, by which the broker's certificate is judged."""
        self._settings = settings
        self._will = will
        self._deliver = deliver
        self._now = now
        self._lock = threading.Lock()
        self._topics: dict[str, None] = {}
        self._connection: Connection | None = None
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

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            connection = Connection(self._settings, self._will, self._deliver, self._up)
            reason = ""
            try:
                connection.open(self._now())
                connection.serve(self._stopping)
            except ConnectionLost as lost:
                reason = str(lost)
            finally:
                with self._lock:
                    self._connection = None
                connection.close()
            if reason:
                self._deliver(Disconnected(reason))
            attempt = 0 if connection.lasted_seconds() >= STEADY_SECONDS else attempt + 1
            # Jitter needs no secrecy.
            fraction = random.random()  # noqa: S311
            settings = self._settings
            self._stopping.wait(
                backoff(
                    attempt - 1,
                    settings.backoff_seconds_min,
                    settings.backoff_seconds_max,
                    fraction,
                )
            )

    def _up(self, connection: Connection) -> None:
        """CONNACK came: ask for everything again, then let others publish."""
        with self._lock:
            self._connection = connection
            connection.subscribe(self._topics)
        self._deliver(Connected())
