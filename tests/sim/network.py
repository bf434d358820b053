"""A broker and the links to it, where every message takes time and anything may go wrong.

Within one connection messages keep their order unless a fault says otherwise; what is under way
when a connection breaks is lost, as with MQTT over TCP. Retained messages survive a restart of the
broker or not, as the fault says. The hub's ingest has a session: what comes while it is away waits.
"""

import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message, Subscribed
from muster_agent.link.memory import matches, may_read, may_write
from muster_protocol.wire import topics
from sim.scheduler import Scheduler

RECONNECT_SECONDS = (1.0, 8.0)
SESSION_MESSAGES_MAX = 5_000


@dataclass
class Weather:
    """What the network does to one device at the moment."""

    duplicate: int = 0
    """The next so many messages to or from the device come twice."""
    reorder: int = 0
    """... are held back by up to half a minute."""
    lose_up: int = 0
    """... that the device publishes are lost by the broker after it took them."""
    slow_until: float = 0.0
    blocked_until: float = 0.0
    """No connection can be made before."""


class Link:
    """A device's end; implements ``muster_agent.link.link.Link``."""

    def __init__(
        self,
        broker: "Broker",
        device: str,
        will: tuple[str, bytes],
        deliver: Callable[[LinkEvent], None],
    ) -> None:
        self.device, self.will, self.deliver = device, will, deliver
        self.connected = False
        self.running = False
        self.session = 0
        self.filters: dict[str, None] = {}
        self.last_down = 0.0
        self.last_up = 0.0
        self.received = 0
        """Bytes of messages that have come whole, over this connection."""
        self.coming: deque[tuple[float, float, int]] = deque()
        """Of messages under way: when the first byte comes, when the last, and how many."""
        self.lost_at = 0.0
        self._broker = broker

    def start(self) -> None:
        self.running = True
        self._broker.attach(self)

    def stop(self) -> None:
        self.running = False
        self._broker.drop(self, "the agent has ended")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        if self.connected:
            self._broker.upward(self, topic, payload, retain=retain)
        return self.connected

    def subscribe(self, *names: str) -> None:
        self.filters.update(dict.fromkeys(names))
        if self.connected:
            self._broker.hand_retained(self, names)
            self._broker.confirm(self, names)

    def unsubscribe(self, *names: str) -> None:
        for name in names:
            self.filters.pop(name, None)

    def follows(self, topic: str) -> bool:
        return any(matches(pattern, topic) for pattern in self.filters)

    def received_bytes(self) -> int:
        return self._broker.received_bytes(self)


@dataclass
class Hubside:
    """The hub's connection to the broker."""

    connected: bool = True
    connections: int = 1
    session: deque[tuple[str, bytes]] = field(default_factory=deque)
    """Taken by the broker, not yet acknowledged by the hub's ingest."""


class Broker:
    def __init__(self, clock: Scheduler, rng: random.Random) -> None:
        self.clock, self.rng = clock, rng
        self.retained: dict[str, bytes] = {}
        self.links: dict[str, Link] = {}
        self.weather: dict[str, Weather] = {}
        self.bytes_per_second: dict[str, float] = {}
        """What the line of a device carries, either way, where that is little."""
        self.hub = Hubside()
        self.up = True
        self.revoked: set[str] = set()
        self.directives: dict[str, list[bytes]] = {}
        """What the hub has told each device, ever."""
        self.on_session: Callable[[], None] = lambda: None
        """Something waits for the hub's ingest."""
        self.on_link: Callable[[str, str], None] = lambda _device, _what: None

    # Connections

    def attach(self, link: Link) -> None:
        self.links[link.device] = link
        self.weather.setdefault(link.device, Weather())
        self._try(link, self.rng.uniform(0.05, 1.0))

    def _try(self, link: Link, pause: float) -> None:
        self.clock.after(pause, lambda: self._connect(link))

    def _connect(self, link: Link) -> None:
        if self.links.get(link.device) is not link or not link.running or link.connected:
            return
        blocked = self.weather[link.device].blocked_until
        if not self.up or blocked > self.clock.now or link.device in self.revoked:
            pause = max(blocked - self.clock.now, 0.0) + self.rng.uniform(*RECONNECT_SECONDS)
            self._try(link, pause)
            return
        link.connected = True
        link.session += 1
        link.last_down = link.last_up = self.clock.now
        link.received = 0
        link.coming.clear()
        self.on_link(link.device, "connected")
        link.deliver(Connected())
        self.hand_retained(link, tuple(link.filters))
        self.confirm(link, tuple(link.filters))

    def drop(self, link: Link, reason: str) -> None:
        """The connection breaks; the broker publishes the will, the device tries again."""
        if not link.connected:
            return
        link.connected = False
        link.lost_at = self.clock.now
        self.on_link(link.device, f"disconnected: {reason}")
        if self.up:
            self.clock.after(self.rng.uniform(0.1, 3.0), lambda: self._will(link))
        if link.running:
            link.deliver(Disconnected(reason))
            self._try(link, self.rng.uniform(*RECONNECT_SECONDS))

    def _will(self, link: Link) -> None:
        if not link.connected and self.links.get(link.device) is link:
            self.take(*link.will, retain=True)

    def cut(self, device: str, seconds: float, reason: str) -> None:
        self.weather[device].blocked_until = self.clock.now + seconds
        link = self.links.get(device)
        if link is not None:
            self.drop(link, reason)

    def mend(self) -> None:
        """Nothing is in the way any more: whoever waits for it connects soon."""
        for link in self.links.values():
            self.weather[link.device] = Weather()
            if link.running and not link.connected:
                self._try(link, self.rng.uniform(*RECONNECT_SECONDS))

    def restart(self, seconds: float, *, lose: bool) -> None:
        self.up = False
        for link in list(self.links.values()):
            self.drop(link, "the broker ended")
        self.hub.connected = False
        if lose:
            self.retained.clear()
            self.hub.session.clear()
        self.clock.after(seconds, self._start)

    def _start(self) -> None:
        self.up = True
        self.hub_connects()

    def hub_connects(self) -> None:
        if self.up and not self.hub.connected:
            self.hub.connected = True
            self.hub.connections += 1
            for topic, payload in list(self.retained.items()):
                if topic.endswith("/presence"):
                    self._to_ingest(topic, payload)
            if self.hub.session:
                self.on_session()

    # Messages

    def upward(self, link: Link, topic: str, payload: bytes, *, retain: bool) -> None:
        weather, session = self.weather[link.device], link.session
        if weather.lose_up:
            weather.lose_up -= 1
            self.on_link(link.device, f"lost on the way: {topic}")
            return
        link.last_up = max(link.last_up, self.clock.now + self._delay(weather))
        link.last_up += len(payload) / self._rate(link)
        for _ in range(self._times(weather)):
            when = link.last_up + self._held(weather)

            def arrive() -> None:
                # What was under way when the connection broke is lost.
                if self.up and link.session == session and link.connected:
                    self.take(topic, payload, retain=retain)

            self.clock.at(when, arrive)

    def take(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """A message of a device has reached the broker."""
        if not may_write(topics.parse_up(topic).device, topic):
            return
        if retain:
            self.retained[topic] = payload
        self._to_ingest(topic, payload)

    def _to_ingest(self, topic: str, payload: bytes) -> None:
        if len(self.hub.session) < SESSION_MESSAGES_MAX:
            self.hub.session.append((topic, payload))
            self.on_session()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """With the hub's rights, or a thief's."""
        if retain:
            if payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)
        for link in self.links.values():
            if link.connected and may_read(link.device, topic) and link.follows(topic):
                self._down(link, Message(topic, payload, retained=False))

    def hand_retained(self, link: Link, filters: tuple[str, ...]) -> None:
        for topic in filters:
            payload = self.retained.get(topic)
            if payload is not None and may_read(link.device, topic):
                self._down(link, Message(topic, payload, retained=True))

    def _down(self, link: Link, message: Message) -> None:
        weather, session = self.weather[link.device], link.session
        size = len(message.payload)
        for _ in range(self._times(weather)):
            begun = max(link.last_down, self.clock.now + self._delay(weather))
            link.last_down = begun + size / self._rate(link)
            link.coming.append((begun, link.last_down, size))

            def arrive() -> None:
                if link.connected and link.session == session:
                    link.deliver(message)

            self.clock.at(link.last_down + self._held(weather), arrive)

    def confirm(self, link: Link, filters: tuple[str, ...]) -> None:
        """The broker has taken subscriptions; it says so after what it had of them."""
        shared = tuple(filter(topics.is_shared, filters))
        session = link.session

        def arrive() -> None:
            if link.connected and link.session == session:
                link.deliver(Subscribed(shared))

        if shared:
            self.clock.at(max(link.last_down, self.clock.now), arrive)

    def received_bytes(self, link: Link) -> int:
        """Bytes of messages, half come ones included."""
        if not link.connected:
            return 0
        now = self.clock.now
        while link.coming and link.coming[0][1] <= now:
            link.received += link.coming.popleft()[2]
        half = 0.0
        if link.coming and link.coming[0][0] < now:
            begun, ends, size = link.coming[0]
            half = size * (now - begun) / (ends - begun)
        return link.received + int(half)

    def _rate(self, link: Link) -> float:
        return self.bytes_per_second.get(link.device, float("inf"))

    def _delay(self, weather: Weather) -> float:
        slow = weather.slow_until > self.clock.now
        return self.rng.uniform(1.0, 6.0) if slow else self.rng.uniform(0.005, 0.1)

    def _times(self, weather: Weather) -> int:
        if weather.duplicate:
            weather.duplicate -= 1
            return 2
        return 1

    def _held(self, weather: Weather) -> float:
        if weather.reorder:
            weather.reorder -= 1
            return self.rng.uniform(0.0, 30.0)
        return 0.0


class Sender:
    """The publisher's connection; implements ``muster_hub.mqtt.sending.Sending``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._taken: list[Hashable] = []

    @property
    def connected(self) -> bool:
        return self._broker.up and self._broker.hub.connected

    @property
    def connections(self) -> int:
        return self._broker.hub.connections

    def start(self) -> None:
        """It is connected whenever the broker is there."""

    def stop(self) -> None:
        """Nothing is held."""

    def send(
        self,
        name: Hashable,
        topic: str,
        payload: bytes,
        *,
        retain: bool,
        expiry_seconds: int | None = None,
    ) -> bool:
        if not self.connected:
            return False
        self._broker.publish(topic, payload, retain=retain)
        self._taken.append(name)
        if topic.endswith("/directive") and payload:
            device = topic.split("/")[-2]
            self._broker.directives.setdefault(device, []).append(payload)
        return True

    def taken(self) -> list[Hashable]:
        taken, self._taken = self._taken, []
        return taken

    def drain(self, timeout_seconds: float) -> bool:
        return self.connected

    def retained(self, topic: str, timeout_seconds: float) -> bytes | None:
        return self._broker.retained.get(topic)
