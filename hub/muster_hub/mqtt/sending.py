"""Publish with a bound on what is under way, and know what the broker has taken."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from muster_hub.mqtt.client import BrokerAddress, Delivery, HubClient
from muster_hub.mqtt.inbound import Wanted, read
from muster_protocol.wire import topics

CLIENT_ID = "_hub-publish"
UNDER_WAY_MAX = 64
"""Messages published but not yet acknowledged; of chunks that is 8 MiB."""
STALLED_SECONDS = 30.0


class Sending(Protocol):
    """What publishing needs of a connection; ``Sender`` is the real one."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        ...

    @property
    def connections(self) -> int:
        """How often it did; a new number means that retained messages may be gone."""
        ...

    def start(self) -> None:
        """Connect, and keep connecting until ``stop``."""
        ...

    def stop(self) -> None:
        """Disconnect; what is under way may be lost."""
        ...

    def send(
        self,
        name: Hashable,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expiry_seconds: int | None = None,
    ) -> bool:
        """Publish at QoS 1 under a name of the caller's; False when the queue is full."""
        ...

    def taken(self) -> list[Hashable]:
        """Names of those it has acknowledged since the last call."""
        ...

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing is under way; False when it took too long."""
        ...

    def retained(self, topic: str, timeout_seconds: float) -> bytes | None:
        """What the broker holds on a topic; None when it stays silent."""
        ...


@dataclass
class _Flight:
    """Guarded by the sender's condition."""

    pending: dict[int, Hashable] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    """Acknowledged before ``publish`` had returned their number."""
    taken: list[Hashable] = field(default_factory=list)
    connections: int = 0
    noted: dict[str, bytes] = field(default_factory=dict)


class Sender:
    """A connection for publishing. ``send`` names each message; ``taken`` tells which arrived.

    paho repeats what was under way when a connection broke, so nothing is published twice here.
    """

    def __init__(
        self, address: BrokerAddress, on_want: Callable[[Wanted], None] | None = None
    ) -> None:
        """``on_want`` has it listen for the chunks that devices lack."""
        self._condition = threading.Condition()
        self._flight = _Flight()
        self._on_want = on_want
        self.client = HubClient(
            address,
            CLIENT_ID,
            on_message=self._hear,
            on_connection=self._connection_changed,
            on_published=self._acknowledged,
        )

    def start(self) -> None:
        if self._on_want is not None:
            self.client.subscribe(topics.up_all("want"))
        self.client.start()

    def stop(self) -> None:
        self.client.stop()

    @property
    def connected(self) -> bool:
        return self.client.connected

    @property
    def connections(self) -> int:
        """How often a connection has been made; a change means the broker may have forgotten."""
        with self._condition:
            return self._flight.connections

    def send(
        self,
        name: Hashable,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expiry_seconds: int | None = None,
    ) -> bool:
        """Publish once there is room; False when the connection went away or stalls."""
        with self._condition:
            room = self._condition.wait_for(
                lambda: len(self._flight.pending) < UNDER_WAY_MAX or not self.client.connected,
                timeout=STALLED_SECONDS,
            )
        if not room or not self.client.connected:
            return False
        mid = self.client.publish(topic, payload, retain=retain, expiry_seconds=expiry_seconds)
        if mid is None:
            return False
        with self._condition:
            if mid in self._flight.early:
                self._flight.early.discard(mid)
                self._flight.taken.append(name)
            else:
                self._flight.pending[mid] = name
        return True

    def taken(self) -> list[Hashable]:
        """Names of messages the broker has acknowledged since the last call."""
        with self._condition:
            taken, self._flight.taken = self._flight.taken, []
        return taken

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing is under way; False when that took too long or the link broke."""
        with self._condition:
            self._condition.wait_for(
                lambda: not self._flight.pending or not self.client.connected, timeout_seconds
            )
            return not self._flight.pending

    def retained(self, topic: str, timeout_seconds: float) -> bytes | None:
        """The retained message of a topic, or None when none came in time."""
        with self._condition:
            self._flight.noted.pop(topic, None)
        self.client.subscribe(topic)
        with self._condition:
            self._condition.wait_for(lambda: topic in self._flight.noted, timeout_seconds)
            found = self._flight.noted.get(topic)
        self.client.unsubscribe(topic)
        return found

    def _hear(self, item: Delivery) -> None:
        self.client.acknowledge(item)
        if self._on_want is None or not item.topic.startswith(f"{topics.ROOT}/up/"):
            self._note(item.topic, item.payload)
        elif isinstance(wanted := read(item.topic, item.payload, 0.0), Wanted):
            self._on_want(wanted)

    def _note(self, topic: str, payload: bytes) -> None:
        with self._condition:
            self._flight.noted[topic] = payload
            self._condition.notify_all()

    def _acknowledged(self, mid: int) -> None:
        with self._condition:
            if mid in self._flight.pending:
                self._flight.taken.append(self._flight.pending.pop(mid))
            else:
                self._flight.early.add(mid)
            self._condition.notify_all()

    def _connection_changed(self, connected: bool) -> None:  # noqa: FBT001 (a handler of one fact)
        with self._condition:
            self._flight.connections += int(connected)
            self._condition.notify_all()
