"""The MQTT link against a real Mosquitto with TLS, client certificates and an ACL."""

import datetime as dt
import queue
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.link.link import Connected, Disconnected, LinkEvent, Message, Subscribed
from muster_agent.link.mqtt import MqttLink, MqttSettings, backoff
from muster_agent.trust.time import BUILD_TIME, Instant
from muster_protocol.wire import messages, topics
from muster_protocol.wire.contact import BrokerAddress
from support.mosquitto import Mosquitto
from support.pki import Authority, Pair
from support.ports import free_port

pytestmark = pytest.mark.system
WAIT_SECONDS = 60.0


def today() -> Instant:
    return Instant(int(time.time()), "synchronised")


class Inbox:
    def __init__(self) -> None:
        self._events: queue.Queue[LinkEvent] = queue.Queue(1000)
        self.put = self._events.put

    def next(self) -> LinkEvent:
        return self._events.get(timeout=WAIT_SECONDS)

    def message(self) -> Message:
        while isinstance(event := self.next(), Subscribed):
            pass
        assert isinstance(event, Message), event
        return event

    def reason(self) -> str:
        while isinstance(event := self.next(), Subscribed):
            pass
        assert isinstance(event, Disconnected), event
        assert "\n" not in event.reason
        return event.reason


@contextmanager
def linked(
    authority: Authority,
    port: int,
    device: str = "dev-1",
    *,
    pair: Pair | None = None,
    host: str = "127.0.0.1",
    now: Instant | None = None,
    brokers: Callable[[], list[BrokerAddress]] | None = None,
) -> Iterator[tuple[MqttLink, Inbox]]:
    pair = pair or authority.issue(device)
    inbox = Inbox()
    settings = MqttSettings(
        host, port, device, pair.key, pair.cert, authority.cert,
        backoff_seconds_min=0.05, backoff_seconds_max=0.2,
    )  # fmt: skip
    will = (topics.up(device, "presence"), messages.encode(messages.Presence(online=False)))
    link = MqttLink(settings, will, inbox.put, lambda: now or today(), brokers=brokers)
    link.start()
    try:
        yield link, inbox
    finally:
        link.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, authority) as running:
        yield running


def test_a_device_receives_what_was_retained_and_what_comes_later(
    authority: Authority, broker: Mosquitto
) -> None:
    topic = topics.down("dev-1", "directive")
    with (
        linked(authority, broker.port, "hub") as (hub, hub_inbox),
        linked(authority, broker.port) as (device, inbox),
    ):
        assert hub_inbox.next() == Connected()
        assert inbox.next() == Connected()
        assert hub.publish(topic, b"one", retain=True)
        hub.subscribe(topics.up_all("report"))
        device.subscribe(topic)
        first = inbox.message()
        assert (first.topic, first.payload) == (topic, b"one")
        hub.publish(topic, b"two", retain=True)
        assert inbox.message() == Message(topic, b"two", retained=False)
        assert device.publish(topics.up("dev-1", "report"), b"here")
        assert hub_inbox.message().payload == b"here"


def test_brokers_are_tried_in_order_and_the_first_again_once_a_connection_ends(
    tmp_path: Path, authority: Authority, broker: Mosquitto
) -> None:
    (tmp_path / "next").mkdir()
    following = Mosquitto(tmp_path / "next", authority)
    elsewhere = following.port
    addresses = [BrokerAddress("127.0.0.1", elsewhere), BrokerAddress("127.0.0.1", broker.port)]
    with linked(authority, broker.port, brokers=lambda: addresses) as (_, inbox):
        assert inbox.next() == Connected(), "nobody hears of the first while the second answers"
        with following:
            broker.stop()
            assert str(broker.port) in inbox.reason()
            assert inbox.next() == Connected()
        assert str(elsewhere) in inbox.reason()
        said = inbox.reason()
        assert all(str(port) in said for port in (elsewhere, broker.port)), said


def test_a_broker_that_is_named_while_the_link_is_up_is_tried_when_that_ends(
    tmp_path: Path, authority: Authority, broker: Mosquitto
) -> None:
    addresses = [BrokerAddress("127.0.0.1", broker.port)]
    (tmp_path / "next").mkdir()
    with (
        Mosquitto(tmp_path / "next", authority) as following,
        linked(authority, broker.port, brokers=lambda: addresses) as (_, inbox),
    ):
        assert inbox.next() == Connected()
        addresses.insert(0, BrokerAddress("127.0.0.1", following.port))
        broker.stop()
        assert str(broker.port) in inbox.reason()
        assert inbox.next() == Connected()


def test_asking_again_for_a_topic_brings_its_retained_message_again(
    authority: Authority, broker: Mosquitto
) -> None:
    topic = topics.chunk("ab" * 32)
    with (
        linked(authority, broker.port, "hub") as (hub, hub_inbox),
        linked(authority, broker.port) as (device, inbox),
    ):
        assert (hub_inbox.next(), inbox.next()) == (Connected(), Connected())
        hub.subscribe(topic)
        assert hub_inbox.next() == Subscribed((topic,))
        hub.publish(topic, b"chunk", retain=True)
        assert hub_inbox.message().payload == b"chunk"
        for _ in range(3):
            before = device.received_bytes()
            device.subscribe(topic)
            come = {inbox.next(), inbox.next()}
            assert come == {Message(topic, b"chunk", retained=True), Subscribed((topic,))}
            assert device.received_bytes() > before + len(b"chunk")
        device.unsubscribe(topic)


def test_subscriptions_survive_a_restart_of_the_broker(
    authority: Authority, broker: Mosquitto
) -> None:
    topic = topics.tuf("timestamp.json")
    with linked(authority, broker.port) as (device, inbox):
        device.subscribe(topic)
        assert inbox.next() == Connected()
        broker.stop()
        assert str(broker.port) in inbox.reason()
        assert not device.publish(topics.up("dev-1", "report"), b"nobody hears this")
        broker.start()
        while inbox.next() != Connected():
            pass
        with linked(authority, broker.port, "hub") as (hub, hub_inbox):
            assert hub_inbox.next() == Connected()
            hub.publish(topic, b"fresh", retain=True)
            assert inbox.message().payload == b"fresh"


def test_a_device_that_leaves_is_shown_offline_at_once(
    authority: Authority, broker: Mosquitto
) -> None:
    topic = topics.up("dev-1", "presence")
    with linked(authority, broker.port, "hub") as (hub, hub_inbox):
        assert hub_inbox.next() == Connected()
        hub.subscribe(topic)
        with linked(authority, broker.port) as (device, inbox):
            assert inbox.next() == Connected()
            device.publish(topic, messages.encode(messages.Presence(online=True)), retain=True)
            assert messages.decode(hub_inbox.message().payload, messages.Presence).online
        assert not messages.decode(hub_inbox.message().payload, messages.Presence).online


def test_a_message_larger_than_the_broker_takes_is_refused_and_the_link_lives(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        Mosquitto(tmp_path, authority, extra="max_packet_size 20000\n") as broker,
        linked(authority, broker.port) as (device, inbox),
    ):
        assert inbox.next() == Connected()
        assert not device.publish(topics.up("dev-1", "report"), bytes(30_000))
        assert device.publish(topics.up("dev-1", "report"), bytes(10_000))
        with linked(authority, broker.port, "hub") as (hub, hub_inbox):
            assert hub_inbox.next() == Connected()
            hub.publish(topics.down("dev-1", "ack"), b"still here", retain=True)
            device.subscribe(topics.down("dev-1", "ack"))
            assert inbox.message().payload == b"still here"


def test_more_messages_than_the_queue_holds_are_refused_not_kept(
    authority: Authority, broker: Mosquitto
) -> None:
    with linked(authority, broker.port) as (device, inbox):
        assert inbox.next() == Connected()
        answers = {device.publish(topics.up("dev-1", "report"), b"x") for _ in range(20_000)}
        assert answers == {True, False}


def test_nothing_listening_is_told_in_one_line(authority: Authority) -> None:
    with linked(authority, free_port()) as (_, inbox):
        assert "refuses connections: is the broker running" in inbox.reason()


def test_an_unknown_host_is_told_in_one_line(authority: Authority) -> None:
    with linked(authority, 8883, host="broker.invalid") as (_, inbox):
        assert "no address is known for broker.invalid" in inbox.reason()


def test_a_broker_with_another_ca_is_refused(tmp_path: Path, authority: Authority) -> None:
    other = Authority(tmp_path, "other")
    with (
        Mosquitto(tmp_path, other) as broker,
        linked(authority, broker.port) as (_, inbox),
    ):
        assert "not signed by the CA this device was enrolled with" in inbox.reason()


def test_a_broker_that_refuses_our_certificate_is_told_in_one_line(
    tmp_path: Path, authority: Authority, broker: Mosquitto
) -> None:
    stranger = Authority(tmp_path, "stranger").issue("dev-1", file="stranger-dev-1")
    with linked(authority, broker.port, pair=stranger) as (_, inbox):
        assert re.search("refuse[ds] this device's certificate", inbox.reason())


def test_a_missing_certificate_file_is_told_in_one_line(
    tmp_path: Path, authority: Authority
) -> None:
    pair = Pair(tmp_path / "none.key", tmp_path / "none.crt")
    with linked(authority, free_port(), pair=pair) as (_, inbox):
        assert "none.crt" in inbox.reason()


def certificate_of(years: tuple[int, int], authority: Authority) -> Pair:
    start, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in years)
    return authority.issue("broker", hosts=("127.0.0.1",), start=start, end=end)


def at(year: int) -> int:
    return int(dt.datetime(year, 6, 1, tzinfo=dt.UTC).timestamp())


def long_lived(directory: Path) -> Authority:
    return Authority(
        directory,
        start=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        end=dt.datetime(2090, 1, 1, tzinfo=dt.UTC),
    )


def test_a_certificate_the_system_clock_calls_expired_is_good_by_trusted_time(
    tmp_path: Path,
) -> None:
    authority = long_lived(tmp_path)
    server = certificate_of((2021, 2023), authority)
    with (
        Mosquitto(tmp_path, authority, server) as broker,
        linked(authority, broker.port, now=Instant(at(2022), "synchronised")) as (_, inbox),
    ):
        assert inbox.next() == Connected()


def test_a_certificate_of_the_future_is_good_when_only_a_floor_is_known(tmp_path: Path) -> None:
    authority = long_lived(tmp_path)
    server = certificate_of((2060, 2062), authority)
    with (
        Mosquitto(tmp_path, authority, server) as broker,
        linked(authority, broker.port, now=Instant(BUILD_TIME, "floor")) as (_, inbox),
    ):
        assert inbox.next() == Connected()


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (Instant(at(2064), "floor"), "expired on 2062"),
        (Instant(at(2050), "synchronised"), "before"),
    ],
)
def test_a_certificate_outside_trusted_time_is_refused(
    tmp_path: Path, now: Instant, word: str
) -> None:
    authority = long_lived(tmp_path)
    server = certificate_of((2060, 2062), authority)
    with (
        Mosquitto(tmp_path, authority, server) as broker,
        linked(authority, broker.port, now=now) as (_, inbox),
    ):
        assert word in inbox.reason()


def test_a_broker_under_another_name_is_refused(tmp_path: Path, authority: Authority) -> None:
    server = authority.issue("elsewhere", hosts=("elsewhere.example",))
    with (
        Mosquitto(tmp_path, authority, server) as broker,
        linked(authority, broker.port) as (_, inbox),
    ):
        assert "not for that" in inbox.reason()


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_between_half_the_least_and_the_most(attempt: int, fraction: float) -> None:
    assert 0.25 <= backoff(attempt, 0.5, 60.0, fraction) <= 60.0


CONNACK = bytes([0x20, 3, 0, 0, 0])


@contextmanager
def rogue_broker(authority: Authority, sends: Iterable[bytes]) -> Iterator[tuple[int, Event]]:
    """A broker with a good certificate that accepts everyone and then sends anything at all.

    Yields its port, and an event that is set when its first peer has hung up.
    """
    pair = authority.issue("broker", hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    hung_up = Event()

    def serve(listener: socket.socket) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as peer:
            with suppress(OSError):
                peer.recv(4096)
                peer.sendall(CONNACK)
                for data in sends:
                    peer.sendall(data)
                peer.settimeout(WAIT_SECONDS)
                while peer.recv(4096):
                    pass
            hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=serve, args=(listener,))
        server.start()
        yield listener.getsockname()[1], hung_up
        server.join(WAIT_SECONDS)


def test_a_broker_that_sends_endless_data_is_hung_up_on(authority: Authority) -> None:
    endless_publish = bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F])
    flood = (bytes(16_384) for _ in range(20_000))
    with (
        rogue_broker(authority, chain([endless_publish], flood)) as (port, hung_up),
        linked(authority, port) as (_, inbox),
    ):
        assert inbox.next() == Connected()
        assert "endless data" in inbox.reason()
        assert hung_up.wait(WAIT_SECONDS)


@pytest.mark.parametrize(
    "packet",
    [
        bytes([0x30, 6, 0, 2, 0xFF, 0xFE, 0, 0x78]),
        bytes([0x30, 2, 0xFF, 0xFF]),
        bytes([0x30, 5, 0, 1, 0x61, 0x7F, 0xEE]),
        bytes([0x90, 1, 0]),
        bytes([0x20, 0]),
        bytes([0xF0, 0]),
        bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ],
    ids=["topic", "short", "properties", "suback", "connack", "reserved", "length"],
)
def test_a_broker_that_sends_malformed_packets_does_not_silence_the_link(
    authority: Authority, packet: bytes
) -> None:
    with (
        rogue_broker(authority, [packet]) as (port, hung_up),
        linked(authority, port) as (_, inbox),
    ):
        assert inbox.next() == Connected()
        assert inbox.reason()
        assert hung_up.wait(WAIT_SECONDS)
