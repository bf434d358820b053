"""The life of one MQTT 5 connection; the only module of the agent that imports paho.

paho is driven from one thread, the link's. Other threads leave messages in a bounded queue and wake
that thread through a socket pair, so nobody waits for a lock while the network is slow.
"""

import contextlib
import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from muster_agent.base.proxy import DIRECT, Proxies, ProxyError
from muster_agent.identity import tls
from muster_agent.link import counted
from muster_agent.link.link import LinkEvent, Message, Subscribed
from muster_agent.trust.time import Instant
from muster_protocol.wire import limits, topics
from muster_protocol.wire.addresses import joined

_log = logging.getLogger(__name__)

QUEUE_MESSAGES_MAX = 256
"""Messages published but not yet acknowledged by the broker; more are refused."""
TOPICS_PER_SUBSCRIBE = 64
PACKET_BYTES_MAX = limits.TUF_METADATA_BYTES_MAX + 4 * limits.KIB
"""What we take from a broker, and send unless it takes less."""
PACKET_OVERHEAD_BYTES = 64
CONNECT_TIMEOUT_SECONDS = 30.0
"""Certificates both ways at 1 KB/s, and a stall."""
TICK_SECONDS = 1.0
LEAVE_SECONDS = 2.0
BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the broker is, and who this device is to it."""

    host: str
    port: int
    device: str
    key: Path
    cert: Path
    ca: Path
    keepalive_seconds: int = limits.KEEPALIVE_SECONDS
    backoff_seconds_min: float = BACKOFF_SECONDS_MIN
    backoff_seconds_max: float = BACKOFF_SECONDS_MAX
    proxies: Proxies = DIRECT

    @property
    def address(self) -> str:
        """Host and port, for messages to people."""
        return joined(self.host, self.port)


class ConnectionLost(Exception):
    """Ends one connection; the message is the reason an operator sees."""


class _Client(Client):
    """paho over a way of ours: it knows only proxies of a library that nobody keeps any more."""

    proxies = DIRECT

    def _create_socket_connection(self) -> socket.socket:
        # Private, and the only place where a socket comes in; a test watches over it.
        return self.proxies.connect(self.host, self.port, self.connect_timeout)


class BrokerConnection:
    """The life of one connection. All but ``submit``, ``ask`` and ``wake`` is the link's thread."""

    def __init__(
        self,
        settings: MqttSettings,
        will: tuple[str, bytes],
        deliver: Callable[[LinkEvent], None],
        up: Callable[["BrokerConnection"], None],
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._up = up
        self._lock = threading.Lock()
        self._outgoing: deque[tuple[str, bytes, bool]] = deque()
        self._interest: dict[str, bool] = {}
        self._asking: dict[int, tuple[str, ...]] = {}
        """Shared topics by the packet that asks for them, until the broker confirms it."""
        self._unacknowledged = 0
        self._packet_bytes_max = PACKET_BYTES_MAX
        self._reason = ""
        self._connected_at: float | None = None
        self._waker, self._woken = socket.socketpair()
        self._waker.settimeout(0)
        self._woken.settimeout(0)
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.device,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.proxies = settings.proxies
        self._client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        # On a slow link the broker's acknowledgements stand behind a chunk for a minute: telemetry
        # and reports go out meanwhile, as many as may wait.
        self._client.max_inflight_messages_set(QUEUE_MESSAGES_MAX)
        self._client.will_set(will[0], will[1], qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_log = self._on_log

    def open(self, now: Instant) -> None:
        """Connect and send CONNECT; raises ConnectionLost with the reason."""
        settings = self._settings
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no type here
        properties.MaximumPacketSize = PACKET_BYTES_MAX
        try:
            context = tls.context(settings.ca, key=settings.key, cert=settings.cert)
            self._client.tls_set_context(context)

            def on_open(_client: Client, _userdata: object, opened: Any) -> None:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tls.check_peer(opened, context, now, f"the broker {settings.address}")

            self._client.on_socket_open = on_open
            self._client.connect(
                settings.host,
                settings.port,
                keepalive=settings.keepalive_seconds,
                clean_start=True,
                properties=properties,
            )
        except (tls.TlsError, ProxyError) as error:
            raise ConnectionLost(str(error)) from None
        except OSError as error:
            raise ConnectionLost(self._unreachable(error)) from None

    def serve(self, leaving: Callable[[], bool], every_turn: Callable[[], None]) -> None:
        """Run until it is time to leave; raises ConnectionLost when the connection ends otherwise.

        ``every_turn`` is called on this thread, about every second, while connected.
        """
        started = time.monotonic()
        while not leaving():
            if self._connected_at is None and time.monotonic() - started > CONNECT_TIMEOUT_SECONDS:
                raise ConnectionLost(
                    f"{self._settings.address} accepts connections but does not answer MQTT"
                )
            self._turn()
            if self._connected_at is not None:
                every_turn()
        self._send_pending()
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._client.socket() is not None and time.monotonic() < deadline:
            self._poll()

    def close(self) -> None:
        """Close the socket at once, without a word to the broker."""
        opened = self._client.socket()
        if opened is not None:
            opened.close()
        self._waker.close()
        self._woken.close()

    @property
    def never_connected(self) -> bool:
        """The broker never accepted this connection."""
        return self._connected_at is None

    def lasted_seconds(self) -> float:
        """How long the connection has been up; 0 when it never was."""
        return 0.0 if self._connected_at is None else time.monotonic() - self._connected_at

    def submit(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Queue a message; False when it is too large or too many wait."""
        size = len(topic.encode()) + len(payload) + PACKET_OVERHEAD_BYTES
        with self._lock:
            if size > self._packet_bytes_max:
                _log.warning(
                    "%d bytes for %s are more than the broker takes (%d): not sent",
                    size, topic, self._packet_bytes_max,
                )  # fmt: skip
                return False
            if self._unacknowledged >= QUEUE_MESSAGES_MAX:
                return False
            self._unacknowledged += 1
            self._outgoing.append((topic, payload, retain))
        self.wake()
        return True

    def ask(self, names: Iterable[str], *, follow: bool) -> None:
        """Subscribe or unsubscribe at the next turn; the last word on a topic counts."""
        with self._lock:
            for topic in names:
                self._interest.pop(topic, None)
                self._interest[topic] = follow
        self.wake()

    def wake(self) -> None:
        """Have the link's thread look at its queue now; may be called from any thread."""
        # A full pipe, or one closed with its connection, needs no further waking.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def received_bytes(self) -> int:
        """Bytes that the system has received over this connection, whatever was read of them."""
        return counted.received_bytes(self._client.socket())

    def _turn(self) -> None:
        if self._connected_at is not None:
            self._send_pending()
        self._poll()
        if self._client.socket() is None:
            raise ConnectionLost(self._reason or f"{self._settings.address} closed the connection")

    def _poll(self) -> None:
        """Wait for the network or a command, at most a tick; let paho do what is due."""
        opened = self._client.socket()
        if opened is None:
            return
        waiting = select.poll()
        writing = select.POLLOUT if self._client.want_write() else 0
        waiting.register(opened, select.POLLIN | writing)
        waiting.register(self._woken, select.POLLIN)
        # TLS may hold bytes that poll can't see.
        held = isinstance(opened, ssl.SSLSocket) and opened.pending() > 0
        ready = dict(waiting.poll(0 if held else TICK_SECONDS * 1000))
        if self._woken.fileno() in ready:
            self._woken.recv(4096)
        events = ready.get(opened.fileno(), 0)
        if events & select.POLLOUT:
            self._client.loop_write()
        if held or events & ~select.POLLOUT:
            self._read()
        self._client.loop_misc()

    def _read(self) -> None:
        """Let paho read; hang up on a broker that makes it stumble or ignores our packet limit."""
        try:
            self._client.loop_read()
        except Exception as error:  # malformed packets surface as whatever parsing them raised
            _log.warning("%s: unreadable packet", self._settings.address, exc_info=True)
            raise ConnectionLost(
                f"{self._settings.address} sends what is not MQTT 5 ({type(error).__name__})"
            ) from None
        # Private, and the only place that knows; a test watches over it.
        announced = self._client._in_packet["remaining_length"]  # noqa: SLF001 - paho tells no size before all has come
        if announced > PACKET_BYTES_MAX:
            raise ConnectionLost(
                f"{self._settings.address} sends a packet of {announced} bytes, "
                f"{PACKET_BYTES_MAX} are allowed: an endless data attack, or not our broker"
            )

    def _send_pending(self) -> None:
        with self._lock:
            outgoing, self._outgoing = self._outgoing, deque()
            interest, self._interest = self._interest, {}
        self.subscribe([topic for topic, follow in interest.items() if follow])
        for part in _parts([topic for topic, follow in interest.items() if not follow]):
            self._client.unsubscribe(part)
        for topic, payload, retain in outgoing:
            self._client.publish(topic, payload, qos=1, retain=retain)

    def subscribe(self, names: Iterable[str]) -> None:
        """Subscribe at QoS 1, in packets that a broker accepts."""
        for part in _parts(names):
            options = [(name, SubscribeOptions(qos=1)) for name in part]
            _, packet = self._client.subscribe(options)
            shared = tuple(filter(topics.is_shared, part))
            if packet is not None and shared:
                self._asking[packet] = shared

    def _on_connect(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._reason = f"{self._settings.address} refused {self._settings.device}: {reason}"
            return
        allowed = getattr(properties, "MaximumPacketSize", PACKET_BYTES_MAX)
        self._packet_bytes_max = min(allowed, PACKET_BYTES_MAX)
        self._connected_at = time.monotonic()
        self._up(self)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._reason = f"{self._settings.address} ended the connection: {reason}"
        elif self._reason:
            return
        elif self._connected_at is None:
            # A TLS alert that says why may be lost with the connection.
            self._reason = (
                f"{self._settings.address} hung up before answering: most often it refuses this "
                "device's certificate (another CA, revoked or expired)"
            )
        else:
            self._reason = f"the connection to {self._settings.address} was lost: {reason}"

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._deliver(Message(message.topic, bytes(message.payload), retained=message.retain))

    def _on_publish(
        self,
        _client: Client,
        _userdata: object,
        _mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            self._unacknowledged -= 1
        if reason.is_failure:
            _log.warning("%s refused a message: %s", self._settings.address, reason)

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        packet: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        shared = self._asking.pop(packet, ())
        if shared:
            self._deliver(Subscribed(shared))
        for reason in reasons:
            if reason.is_failure:
                _log.warning("%s refused a subscription: %s", self._settings.address, reason)

    def _on_log(self, _client: Client, _userdata: object, level: int, text: str) -> None:
        # paho tells why a read failed, such as a TLS alert about our certificate, only here.
        if level == LogLevel.MQTT_LOG_ERR:
            if "SSL" in text:
                self._reason = tls.explain(text, self._settings.address)
            _log.info("%s: %s", self._settings.address, text)

    def _unreachable(self, error: OSError) -> str:
        address = self._settings.address
        hint = self._settings.proxies.hint(self._settings.host, self._settings.port)
        match error:
            case ssl.SSLError():
                return tls.explain(error, address) + hint
            case socket.gaierror():
                return f"no address is known for {self._settings.host}: check [broker] host and DNS"
            case ConnectionRefusedError():
                return f"{address} refuses connections: is the broker running, is the port right?"
            case TimeoutError():
                return f"{address} does not answer: check the network and the firewall"
            case ConnectionResetError():
                return f"{address} closed the connection during the handshake{hint}"
            case _:
                return f"can't reach {address}: {error.strerror or error}"


def _parts(names: Iterable[str]) -> Iterator[list[str]]:
    """Split topics over packets, so that none outgrows a broker's limit."""
    whole = list(names)
    for start in range(0, len(whole), TOPICS_PER_SUBSCRIBE):
        yield whole[start : start + TOPICS_PER_SUBSCRIBE]
