"""The link to the broker as the rest of the agent sees it: four events and its verbs.

An implementation owns its connection and its reconnecting. It hands every event to the ``deliver``
callable given at construction, which puts it into the supervisor's bounded inbox.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Connected:
    """The link is up and every remembered subscription has been asked for again."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link is down, or could not be made; ``reason`` is one line for an operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message that the broker delivered."""

    topic: str
    payload: bytes
    retained: bool
    """It was waiting at the broker when we subscribed."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker has taken these subscriptions: what it has retained of them has come, or comes
    next. Said of chunks and metadata; of others nobody waits for it.
    """

    topics: tuple[str, ...]


LinkEvent = Connected | Disconnected | Message | Subscribed


class Link(Protocol):
    """The connection to the broker, as the supervisor uses it; events come back through a
    callback."""

    def start(self) -> None:
        """Connect, and keep connecting until ``stop``."""
        ...

    def stop(self) -> None:
        """Leave for good; the broker publishes the will, so presence turns offline at once."""
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Send at QoS 1; False when not connected, too large or the queue is full.

        What the broker did not acknowledge is forgotten with the connection: a message that must
        arrive is kept by its owner until the hub itself acknowledges it.
        """
        ...

    def subscribe(self, *topics: str) -> None:
        """Follow topics, now and after every reconnect. Asking again brings retained ones again."""
        ...

    def unsubscribe(self, *topics: str) -> None:
        """Receive nothing more on these topics, now and after a reconnection."""
        ...

    def received_bytes(self) -> int:
        """Bytes that have come over this connection, messages half come included; 0 without one.

        May be called from any thread.
        """
        ...
