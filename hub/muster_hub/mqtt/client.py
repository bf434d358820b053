"""The hub's MQTT 5 connection: paho wrapped so that callbacks only hand over, and nothing is lost.

Messages are acknowledged by hand, after what they say is committed. Subscriptions are remembered
and repeated on every connection. The same class serves the managed broker's Unix socket and an
external broker's TLS port.
"""

import json
import os
import random
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from muster_protocol.wire import limits
from muster_protocol.wire.errors import LimitError, MusterError

CONNECT_TIMEOUT_SECONDS = 5.0
RECEIVE_MAXIMUM = 1_000
OUT_IN_FLIGHT_MAX = 100
OUT_QUEUED_MAX = 20_000
_random = random.SystemRandom()


@dataclass(frozen=True, kw_only=True)
class BrokerAddress:
    """How to reach a broker: a Unix socket, or host and port with TLS unless ``plain``."""

    host: str
    port: int = 8883
    unix: Path | None = None
    user: str | None = None
    password: str | None = None
    plain: bool = False
    ca: Path | None = None
    identities: Callable[[str], tuple[Path, Path]] | None = None
    """Gives certificate and key for a connection under a client id."""


def parse_url(
    url: str,
    *,
    ca: Path | None = None,
    identities: Callable[[str], tuple[Path, Path]] | None = None,
) -> BrokerAddress:
    """An external broker from ``mqtts://[user:password@]host[:port]`` (or ``mqtt://``, no TLS)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise MusterError(f"broker URL {url!r}: {error}") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise MusterError(f"broker URL {url!r}: use mqtts://host:port or mqtt://host:port")
    plain = parts.scheme == "mqtt"
    return BrokerAddress(
        host=parts.hostname,
        port=port or (1883 if plain else 8883),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        plain=plain,
        ca=ca,
        identities=identities,
    )


def admin_text(address: BrokerAddress) -> str:
    """The managed broker's own access, as kept in ``broker/admin.json`` for the hub's user."""
    fields = {"unix": str(address.unix), "user": address.user, "password": address.password}
    return json.dumps(fields) + "\n"


def read_admin(path: Path) -> BrokerAddress:
    """Access to a running managed broker from its ``broker/admin.json``."""
    fields = json.loads(path.read_text())
    return BrokerAddress(
        host="", unix=Path(fields["unix"]), user=fields["user"], password=fields["password"]
    )


def connect_unix(path: Path) -> socket.socket:
    """Connect to a Unix socket whose path may be longer than a socket address holds."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_TIMEOUT_SECONDS)
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(directory)


@dataclass(frozen=True)
class Delivery:
    """A message as it came; ``connection`` tells which connection may acknowledge it."""

    topic: str
    payload: bytes
    retained: bool
    mid: int
    qos: int
    connection: int


class _Paho(paho.Client):
    """paho, reaching Unix sockets at any path."""

    def _create_unix_socket_connection(self) -> socket.socket:
        return connect_unix(Path(self._host))


class HubClient:
    """One MQTT 5 connection of the hub.

    The handlers run on the network thread and must only hand over: ``on_message(Delivery)``,
    ``on_connection(connected)`` after subscriptions were sent, ``on_published(mid)`` at PUBACK.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        session_seconds: int = 0,
        on_message: Callable[[Delivery], None] | None = None,
        on_connection: Callable[[bool], None] | None = None,
        on_published: Callable[[int], None] | None = None,
    ) -> None:
        self._address = address
        self._session_seconds = session_seconds
        self._on_message = on_message
        self._on_connection = on_connection
        self._on_published = on_published
        self._filters: dict[str, None] = {}
        self._connection = 0
        self._connected = threading.Event()
        self.last_error = ""
        self._paho = self._build(client_id)

    def _build(self, client_id: str) -> _Paho:
        address = self._address
        client = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport="unix" if address.unix is not None else "tcp",
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        client.max_inflight_messages_set(OUT_IN_FLIGHT_MAX)
        client.max_queued_messages_set(OUT_QUEUED_MAX)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if address.unix is None and not address.plain:
            client.tls_set_context(_tls_context(address, client_id))
        client.on_connect = self._connect_came
        client.on_disconnect = self._disconnect_came
        client.on_connect_fail = self._connect_failed
        client.on_message = self._message_came
        client.on_publish = self._puback_came
        client.on_socket_open = _set_nodelay
        return client

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._connected.is_set()

    def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait for that; False when it took too long."""
        return self._connected.wait(timeout_seconds)

    def start(self) -> None:
        """Connect in the background, for ever, with jittered back-off."""
        self._jitter()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho left it untyped
        properties.SessionExpiryInterval = self._session_seconds
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        address = self._address
        self._paho.connect_async(
            str(address.unix) if address.unix is not None else address.host,
            address.port,
            keepalive=limits.KEEPALIVE_SECONDS,
            clean_start=self._session_seconds == 0,
            properties=properties,
        )
        self._paho.loop_start()

    def stop(self) -> None:
        """Say goodbye and end paho's thread."""
        self._paho.disconnect()
        self._paho.loop_stop()
        self._connected.clear()

    def subscribe(self, *filters: str) -> None:
        """Subscribe at QoS 1 now, if connected, and on every connection to come."""
        self._filters.update(dict.fromkeys(filters))
        if self.connected:
            self._paho.subscribe([(name, 1) for name in filters])

    def unsubscribe(self, *filters: str) -> None:
        """Receive nothing more under these filters, now and after a reconnection."""
        for name in filters:
            self._filters.pop(name, None)
        if self.connected:
            self._paho.unsubscribe(list(filters))

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_seconds: int | None = None
    ) -> int | None:
        """Publish at QoS 1; the mid that ``on_published`` will name, or None when not connected.

        Raises LimitError for what no broker of ours carries: sent, it would be refused for ever.
        """
        if len(payload) > limits.TUF_METADATA_BYTES_MAX:
            raise LimitError(f"{topic}: {len(payload)} bytes are over the broker's message limit")
        if not self.connected:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho left it untyped
        if expiry_seconds is not None:
            properties.MessageExpiryInterval = expiry_seconds
        info = self._paho.publish(topic, payload, qos=1, retain=retain, properties=properties)
        accepted = info.rc in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_NO_CONN)
        return info.mid if accepted else None

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge a message whose consequences are committed; of this connection only."""
        if delivery.qos == 1 and delivery.connection == self._connection and self.connected:
            self._paho.ack(delivery.mid, 1)

    def _jitter(self) -> None:
        least, most = _random.uniform(0.1, 0.4), _random.uniform(5, 10)
        self._paho.reconnect_delay_set(least, most)  # type: ignore[arg-type]  # fractions work

    def _connect_came(
        self, client: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any
    ) -> None:
        if reason.is_failure:
            self.last_error = str(reason)
            return
        self._connection += 1
        if self._filters:
            client.subscribe([(name, 1) for name in self._filters])
        self._connected.set()
        if self._on_connection is not None:
            self._on_connection(True)  # noqa: FBT003 (the one fact the handler takes)

    def _disconnect_came(
        self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any
    ) -> None:
        self.last_error = str(reason)
        was = self._connected.is_set()
        self._connected.clear()
        self._jitter()
        if was and self._on_connection is not None:
            self._on_connection(False)  # noqa: FBT003 (the one fact the handler takes)

    def _connect_failed(self, _c: paho.Client, _u: Any) -> None:
        self.last_error = "no connection"

    def _message_came(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        if self._on_message is None:
            return
        self._on_message(
            Delivery(
                message.topic,
                bytes(message.payload),
                message.retain,
                message.mid,
                message.qos,
                self._connection,
            )
        )

    def _puback_came(
        self, _c: paho.Client, _u: Any, mid: int, _reason: ReasonCode, _p: Properties
    ) -> None:
        if self._on_published is not None:
            self._on_published(mid)


def _tls_context(address: BrokerAddress, client_id: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if address.ca is not None:
        context.load_verify_locations(address.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.identities is not None:
        context.load_cert_chain(*address.identities(client_id))
    return context


def _set_nodelay(_c: paho.Client, _u: Any, connection: Any) -> None:
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
