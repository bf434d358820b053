"""What has come and isn't committed yet: every row, and of what a device is only the latest.

Bounded. When it is full whoever puts into it waits, which is the network thread: then the broker
keeps what it has for the hub, and devices keep their rows until the hub acknowledges them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from muster_hub.mqtt.client import Delivery
from muster_protocol.wire import limits

MESSAGES_MAX = 20_000
BYTES_MAX = 64 * limits.MIB
STATE_LEAVES = ("/report", "/presence")
"""Ends of topics whose message says all anew: a later one makes one that waits worthless."""


@dataclass
class _Waiting:
    came: float
    delivery: Delivery | None
    """None: a later one has taken its place."""


class Inbox:
    """A queue between the network thread and the writer."""

    def __init__(
        self,
        *,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._states: dict[str, dict[str, _Waiting]] = {}
        """Device → topic → what waits there, the latest last."""
        self._messages = self._bytes = 0
        self._closed = False
        self._blocked = False

    def put(self, delivery: Delivery) -> Delivery | None:
        """Keep a message, once there is room; the older one that it makes worthless, if any.

        A report takes the turn of the one before it: a device that reports faster than it is read
        is heard all the same. What comes after ``close`` is not kept.
        """
        with self._changed:
            states, replaced = None, None
            if delivery.topic.endswith(STATE_LEAVES):
                states = self._states.setdefault(delivery.topic.rpartition("/")[0], {})
                older = states.get(delivery.topic)
                if older is not None:
                    replaced, older.delivery = older.delivery, None
                    self._count(replaced, -1)
                    if next(reversed(states)) == delivery.topic:
                        older.delivery = delivery  # nothing else was said of the device since
                        self._count(delivery, 1)
                        return replaced
                    del states[delivery.topic]
            if self._full():
                self._blocked = True
                self._changed.wait_for(lambda: self._closed or not self._full())
                self._blocked = False
            if self._closed:
                return replaced
            waiting = _Waiting(self._monotonic(), delivery)
            self._waiting.append(waiting)
            self._count(delivery, 1)
            if states is not None:
                states[delivery.topic] = waiting
                self._states[delivery.topic.rpartition("/")[0]] = states
            self._changed.notify_all()
        return replaced

    def take(self, most: int, seconds: float, linger_seconds: float) -> list[Delivery]:
        """The oldest, up to ``most``; waits ``seconds`` for a first, then a little for others."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, seconds):
                return []
            self._changed.wait_for(lambda: self._closed or self._messages >= most, linger_seconds)
            found: list[Delivery] = []
            while self._waiting and len(found) < most:
                delivery = self._waiting.popleft().delivery
                if delivery is None:
                    continue
                self._count(delivery, -1)
                self._forget(delivery.topic)
                found.append(delivery)
            self._changed.notify_all()
        return found

    def close(self) -> None:
        """Let nobody wait any longer, and keep nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many messages are to be committed yet."""
        return self._messages

    @property
    def lag_seconds(self) -> float:
        """For how long the oldest of them has waited."""
        with self._changed:
            return self._monotonic() - self._waiting[0].came if self._waiting else 0.0

    @property
    def blocked(self) -> bool:
        """It is full: the broker is held back."""
        return self._blocked

    def _full(self) -> bool:
        return self._messages >= self._messages_max or self._bytes >= self._bytes_max

    def _count(self, delivery: Delivery | None, sign: int) -> None:
        if delivery is not None:
            self._messages += sign
            self._bytes += sign * len(delivery.payload)

    def _forget(self, topic: str) -> None:
        device = topic.rpartition("/")[0]
        states = self._states.get(device)
        if states is not None and topic.endswith(STATE_LEAVES):
            states.pop(topic, None)
            if not states:
                del self._states[device]
