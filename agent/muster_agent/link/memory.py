"""A broker in memory: deterministic, single-threaded, with retained messages, wills and an ACL.

Nothing moves until ``pump`` is called, so that a test or a simulator decides what happens between
any two deliveries. ``fault`` sees each delivery first and may drop, double, alter or delay it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message, Subscribed
from muster_protocol.wire import topics

Fault = Callable[["InFlight"], list["InFlight"]]
PENDING_MAX = 100_000


@dataclass(frozen=True, slots=True)
class InFlight:
    """A message on its way to one device."""

    device: str
    message: Message


@dataclass(frozen=True, slots=True)
class Published:
    """A message a device has published, as the hub sees it."""

    device: str
    topic: str
    payload: bytes
    retain: bool


def matches(pattern: str, topic: str) -> bool:
    """Whether an MQTT topic filter matches a topic."""
    wanted, parts = pattern.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(parts) or level not in ("+", parts[position]):
            return False
    return len(wanted) == len(parts)


def may_write(device: str, topic: str) -> bool:
    """Whether a broker's access rules would let the device publish there."""
    return topic.startswith(f"{topics.ROOT}/up/{device}/")


def may_read(device: str, topic: str) -> bool:
    """Whether a broker's access rules would let the device receive from there."""
    mine = f"{topics.ROOT}/down/{device}/"
    return topic.startswith((mine, f"{topics.ROOT}/tuf/", f"{topics.ROOT}/chunk/"))


class MemoryBroker:
    """``published`` is what devices have sent, oldest first; the hub's side takes from it."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.published: deque[Published] = deque(maxlen=PENDING_MAX)
        self.fault: Fault | None = None
        self._links: dict[str, MemoryLink] = {}
        self._cut: set[str] = set()
        self._pending: deque[InFlight] = deque()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with the hub's rights. An empty retained payload clears the topic."""
        if retain:
            if payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)
        for device, link in self._links.items():
            if link.connected and may_read(device, topic) and link.follows(topic):
                self._queue(device, Message(topic, payload, retained=False))

    def pump(self, most: int = PENDING_MAX) -> int:
        """Deliver up to ``most`` pending messages; returns how many there were."""
        done = 0
        while self._pending and done < most:
            delivery = self._pending.popleft()
            done += 1
            for passed in self.fault(delivery) if self.fault else [delivery]:
                link = self._links.get(passed.device)
                if link is not None and link.connected:
                    link.received += len(passed.message.payload)
                    link.deliver(passed.message)
        return done

    def cut(self, device: str, reason: str = "the connection was lost") -> None:
        """Break a device's connection and keep it broken; its will is published."""
        self._cut.add(device)
        link = self._links.get(device)
        if link is not None and link.connected:
            self._drop(link)
            link.deliver(Disconnected(reason))

    def restore(self, device: str) -> None:
        """Let a device that was cut off connect again."""
        self._cut.discard(device)
        link = self._links.get(device)
        if link is not None:
            self.attach(link)

    def attach(self, link: "MemoryLink") -> None:
        """A device connects; called by its link, as are the next three."""
        self._links[link.device] = link
        if link.device in self._cut or link.connected:
            return
        link.connected = True
        link.received = 0
        link.deliver(Connected())
        self.send_retained(link, link.filters)
        link.confirm(link.filters)

    def detach(self, link: "MemoryLink") -> None:
        """A link leaves; its will is published when it did not say goodbye."""
        if self._links.get(link.device) is link:
            if link.connected:
                self._drop(link)
            del self._links[link.device]

    def _drop(self, link: "MemoryLink") -> None:
        link.connected = False
        self._pending = deque(d for d in self._pending if d.device != link.device)
        self.receive(link.device, *link.will, retain=True)

    def receive(self, device: str, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take a device's message, unless the rules forbid it."""
        if not may_write(device, topic):
            return
        self.published.append(Published(device, topic, payload, retain))
        self.publish(topic, payload, retain=retain)

    def send_retained(self, link: "MemoryLink", filters: dict[str, None]) -> None:
        """Deliver what is retained under the filters to one link."""
        for pattern in filters:
            for topic, payload in self.retained.items():
                if matches(pattern, topic) and may_read(link.device, topic):
                    self._queue(link.device, Message(topic, payload, retained=True))

    def _queue(self, device: str, message: Message) -> None:
        if len(self._pending) >= PENDING_MAX:
            raise OverflowError(f"{PENDING_MAX} messages wait in the memory broker: pump it")
        self._pending.append(InFlight(device, message))


class MemoryLink:
    """A device's link to a ``MemoryBroker``; follows ``muster_agent.link.link.Link``."""

    def __init__(
        self,
        broker: MemoryBroker,
        device: str,
        will: tuple[str, bytes],
        deliver: Callable[[LinkEvent], None],
    ) -> None:
        self.device = device
        self.will = will
        self.deliver = deliver
        self.connected = False
        self.received = 0
        """Bytes of messages, over this connection."""
        self.filters: dict[str, None] = {}
        self._broker = broker

    def start(self) -> None:
        self._broker.attach(self)

    def stop(self) -> None:
        self._broker.detach(self)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        if self.connected:
            self._broker.receive(self.device, topic, payload, retain=retain)
        return self.connected

    def subscribe(self, *names: str) -> None:
        self.filters.update(dict.fromkeys(names))
        if self.connected:
            self._broker.send_retained(self, dict.fromkeys(names))
            self.confirm(names)

    def confirm(self, names: Iterable[str]) -> None:
        """Say that the broker has taken subscriptions."""
        shared = tuple(filter(topics.is_shared, names))
        if shared:
            self.deliver(Subscribed(shared))

    def received_bytes(self) -> int:
        return self.received if self.connected else 0

    def unsubscribe(self, *names: str) -> None:
        for name in names:
            self.filters.pop(name, None)

    def follows(self, topic: str) -> bool:
        """Whether one of its filters matches the topic."""
        return any(matches(pattern, topic) for pattern in self.filters)
