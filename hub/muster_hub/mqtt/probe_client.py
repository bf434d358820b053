"""One MQTT 5 connection that says what came of each step: for trying a broker out."""

import queue
import ssl
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties

WAIT_SECONDS = 5.0
INBOX_MAX = 1_000
"""What comes beyond is dropped: a probe asks for little."""


class Peer:
    """Used as a context manager: entered, it is connected. Raises OSError when not let in."""

    def __init__(
        self,
        client_id: str,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        *,
        login: tuple[str, str | None] | None = None,
    ) -> None:
        self.place = (host, port)
        self.context = context
        self._answer: queue.Queue[tuple[ReasonCode, Properties | None]] = queue.Queue()
        self._done: queue.Queue[int] = queue.Queue()
        self._inbox: queue.Queue[tuple[str, bytes]] = queue.Queue(INBOX_MAX)
        self._ended = threading.Event()
        self.packet_bytes_max: int | None = None
        self.retains = True
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.connect_timeout = WAIT_SECONDS
        if context is not None:
            self._paho.tls_set_context(context)
        if login is not None:
            self._paho.username_pw_set(*login)
        self._paho.on_connect = lambda _c, _u, _f, reason, properties: self._answer.put(
            (reason, properties)
        )
        self._paho.on_disconnect = self._disconnected
        self._paho.on_message = self._message
        self._paho.on_publish = lambda _c, _u, mid, *_: self._done.put(mid)
        self._paho.on_subscribe = lambda _c, _u, mid, *_: self._done.put(mid)

    def __enter__(self) -> Self:
        self._paho.connect(*self.place)
        self._paho.loop_start()
        try:
            reason, properties = self._answer.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            self.close()
            raise ConnectionError("the broker did not answer") from None
        if reason.is_failure:
            self.close()
            raise ConnectionError(f"the broker refused: {reason}")
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", None)
        self.retains = bool(getattr(properties, "RetainAvailable", 1))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect and end paho's thread."""
        self._paho.disconnect()
        self._paho.loop_stop()

    def subscribe(self, *filters: str) -> None:
        """Whatever the broker answers: some grant what they then withhold."""
        self._wait(self._paho.subscribe([(name, 1) for name in filters])[1])

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Whatever the broker answers: some acknowledge what they then drop."""
        self._wait(self._paho.publish(topic, payload, qos=1, retain=retain).mid)

    def hears(self, topic: str, payload: bytes) -> bool:
        """Whether this message comes; others are kept for ``heard``."""
        others = []
        until = time.monotonic() + WAIT_SECONDS
        try:
            while (left := until - time.monotonic()) > 0:
                message = self._inbox.get(timeout=left)
                others.append(message)
                if message == (topic, payload):
                    return True
        except queue.Empty:
            pass
        finally:
            for other in others:
                self._keep(other)
        return False

    def heard(self, quiet_seconds: float) -> set[str]:
        """The topics of all that has come, after nothing more has for a while."""
        found = set()
        try:
            while True:
                found.add(self._inbox.get(timeout=quiet_seconds)[0])
        except queue.Empty:
            return found

    def ended(self, seconds: float) -> bool:
        """Whether the broker ends, or has ended, this connection."""
        return self._ended.wait(seconds)

    def _wait(self, mid: int | None) -> None:
        """Until the broker has answered this request, or ended the connection."""
        until = time.monotonic() + WAIT_SECONDS
        while not self._ended.is_set() and time.monotonic() < until:
            try:
                if self._done.get(timeout=0.1) == mid:
                    return
            except queue.Empty:
                continue

    def _message(self, _c: paho.Client, _u: Any, message: paho.MQTTMessage) -> None:
        self._keep((message.topic, bytes(message.payload)))

    def _keep(self, message: tuple[str, bytes]) -> None:
        try:
            self._inbox.put_nowait(message)
        except queue.Full:
            return

    def _disconnected(self, _c: paho.Client, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        self._ended.set()
        self._answer.put((reason, None))
