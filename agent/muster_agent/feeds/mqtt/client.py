"""A connection to a plant's MQTT broker; the only module of the feeds that imports paho.

MQTT 3.1.1, which every broker speaks. paho runs in a thread of its own and only hands things over:
the feed's loop decides. A connection that ends stays ended; who wants another makes one.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from muster_agent.base.feed_settings import MqttAddress
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_protocol.wire.addresses import joined

KEEPALIVE_SECONDS = 10
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 10.0
"""Longest wait for a broker's acknowledgement."""
MESSAGE_BYTES_MAX = 1 << 20
"""A larger message is not a tag's value."""


@dataclass(frozen=True)
class Will:
    """What the broker publishes when the feed is gone without a goodbye."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class PlantConnection:
    """One connection; used from the event loop in which it was made."""

    def __init__(
        self,
        address: MqttAddress,
        place: FeedPlace,
        *,
        will: Will | None = None,
        take: Callable[[str, bytes], None] = lambda _topic, _payload: None,
    ) -> None:
        """``take`` is called from paho's thread with each message."""
        self._where = joined(address.host, address.port)
        self._address = address
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._answers: dict[tuple[str, int], asyncio.Future[None]] = {}
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Set, to the reason, when the connection has ended."""
        self._connected: asyncio.Future[str] = self._loop.create_future()
        name = address.client_id or f"{place.device}-{place.feed}-{place.name}"
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_SECONDS
        if address.username:
            password = place.read_secret(address.password_file) if address.password_file else None
            self._client.username_pw_set(address.username, password)
        if address.ca:
            try:
                context = ssl.create_default_context(cafile=str(place.directory / address.ca))
            except (OSError, ssl.SSLError) as error:
                raise FeedFault(f"{place.directory / address.ca}: no CA file: {error}") from None
            self._client.tls_set_context(context)
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_socket_open = _at_once
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = lambda _c, _u, mid, *_: self._answered("publish", mid)
        self._client.on_subscribe = self._on_subscribe

    async def open(self) -> None:
        """Connect; raises FeedFault naming the broker."""
        try:
            await asyncio.to_thread(
                self._client.connect, self._address.host, self._address.port, KEEPALIVE_SECONDS
            )
        except (OSError, ValueError) as error:
            raise FeedFault(f"no MQTT broker answers at {self._where}: {error}") from None
        self._client.loop_start()
        try:
            refused = await asyncio.wait_for(self._connected, CONNECT_SECONDS)
        except TimeoutError:
            refused = "no answer"
        if refused:
            await self.close()
            raise FeedFault(f"the MQTT broker at {self._where} refuses: {refused}")

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Hear these topics from now on; raises FeedFault."""
        code, mid = self._client.subscribe([(topic, 1) for topic in topics])
        await self._acknowledged("subscribe", code, mid)

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publish, and wait for the broker to have it (at QoS 1); raises FeedFault."""
        sent = self._client.publish(topic, payload, qos, retain)
        if qos:
            await self._acknowledged("publish", sent.rc, sent.mid)
        elif sent.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise FeedFault(f"the connection to {self._where} is lost")

    async def close(self) -> None:
        """Say goodbye, so that no will is published."""
        with contextlib.suppress(Exception):
            self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def _acknowledged(self, what: str, code: MQTTErrorCode, mid: int | None) -> None:
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or self.ended.done():
            raise FeedFault(f"the connection to {self._where} is lost")
        answer = self._loop.create_future()
        self._answers[what, mid] = answer  # paho's thread reaches _settle only through this loop
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.wait({answer, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise FeedFault(f"{self._where} does not acknowledge a {what}") from None
        finally:
            self._answers.pop((what, mid), None)
        if not answer.done():
            raise FeedFault(f"the connection to {self._where} is lost")
        answer.result()

    # In paho's thread

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        self._call(_set, self._connected, str(code) if code.is_failure else "")

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: Any, _: Any) -> None:
        self._call(_set, self._connected, str(code))
        self._call(_set, self.ended, str(code))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if len(message.payload) <= MESSAGE_BYTES_MAX:
            self._take(message.topic, bytes(message.payload))

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, codes: Any, _: Any) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        self._answered("subscribe", mid, ", ".join(refused))

    def _answered(self, what: str, mid: int, refused: str = "") -> None:
        self._call(self._settle, (what, mid), refused)

    def _settle(self, key: tuple[str, int], refused: str) -> None:
        answer = self._answers.get(key)
        if answer is None or answer.done():
            return
        if refused:
            answer.set_exception(FeedFault(f"{self._where} refuses a {key[0]}: {refused}"))
        else:
            answer.set_result(None)


def _set(future: "asyncio.Future[str]", value: str) -> None:
    if not future.done():
        future.set_result(value)


def _at_once(_client: Client, _data: Any, opened: Any) -> None:
    """Or what is published waits for the acknowledgement of what went before, some 40 ms."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
