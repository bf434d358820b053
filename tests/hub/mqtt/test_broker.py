"""The managed Mosquitto: what its rules allow, and that it never outlives or fails its hub."""

import contextlib
import os
import queue
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster_hub.heartbeats import Heartbeats
from muster_hub.mqtt.broker import Broker, BrokerError
from muster_hub.mqtt.broker_config import acl_text, config_text, password_text
from muster_hub.mqtt.client import Delivery, HubClient
from muster_protocol.wire import topics
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.limits import CHUNK_BYTES, MIB
from support.broker_kit import Authority, DeviceClient, Glutton, broker_config
from support.ports import HOST, free_port
from support.waiting import eventually

CHUNK = topics.chunk("ab" * 32)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(broker_config(authority, tmp_path_factory.mktemp("broker")))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def connect(broker: Broker, authority: Authority) -> Iterator[Callable[..., DeviceClient]]:
    clients: list[DeviceClient] = []

    def make(device: str, **options: str) -> DeviceClient:
        clients.append(DeviceClient(authority, broker.config.port, device, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


class Hub:
    """A hub connection that collects what comes."""

    def __init__(self, broker: Broker, client_id: str = "muster-hub-test") -> None:
        self.inbox: queue.Queue[Delivery] = queue.Queue()
        self.published: queue.Queue[int] = queue.Queue()
        self.client = HubClient(
            broker.address, client_id, on_message=self.inbox.put, on_published=self.published.put
        )
        self.client.start()
        assert self.client.wait_connected(5)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        mid = self.client.publish(topic, payload, retain=retain)
        assert self.published.get(timeout=60) == mid

    def subscribe(self, topic: str) -> None:
        """Subscribe and wait: the broker takes a connection's packets in order."""
        self.client.subscribe(topic)
        self.publish("muster/v1/hub/settled", b"")


@pytest.fixture
def hub(broker: Broker) -> Iterator[Hub]:
    hub = Hub(broker)
    yield hub
    hub.client.stop()


def test_a_broker_may_open_as_many_files_as_the_system_lets_it(broker: Broker) -> None:
    assert broker.pid is not None
    soft, hard = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    assert soft == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_a_broker_that_turns_devices_away_says_so_and_what_to_do(
    authority: Authority, tmp_path: Path
) -> None:
    beats = Heartbeats()
    broker = Broker(broker_config(authority, tmp_path / "broker"), heartbeats=beats)
    broker.start()
    try:
        assert beats.standings()["broker"].ok
        assert broker.pid is not None
        files = len(list(Path(f"/proc/{broker.pid}/fd").iterdir())) + 2
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (files, files))
        with contextlib.ExitStack() as open_connections:
            for _ in range(6):
                link = socket.create_connection((HOST, broker.config.port), timeout=5)
                open_connections.enter_context(link)
            eventually(lambda: not beats.standings()["broker"].ok)
        standing = beats.standings()["broker"]
        assert standing.state == "lagging"
        assert f"may open {files} files" in standing.detail
        assert "LimitNOFILE" in standing.detail
    finally:
        broker.stop()


def test_a_device_reaches_the_hub_and_the_hub_answers(
    hub: Hub, connect: Callable[..., DeviceClient]
) -> None:
    device = connect("dev-1")
    hub.subscribe(topics.up_all("report"))
    device.subscribe(topics.down("dev-1", "ack"))
    assert device.publish(topics.up("dev-1", "report"), b"hello") == "Success"
    delivery = hub.inbox.get(timeout=60)
    assert (delivery.topic, delivery.payload) == (topics.up("dev-1", "report"), b"hello")
    hub.client.acknowledge(delivery)
    hub.publish(topics.down("dev-1", "ack"), b"got it")
    assert device.next() == (topics.down("dev-1", "ack"), b"got it")


@pytest.mark.parametrize(
    "topic",
    [
        topics.up("dev-2", "report"),
        topics.up("dev-2", "presence"),
        topics.down("dev-1", "directive"),
        topics.down("dev-2", "ack"),
        topics.tuf("timestamp.json"),
        CHUNK,
        "muster/v1/hub/chunks",
        "elsewhere",
    ],
)
def test_a_device_can_not_write(topic: str, connect: Callable[..., DeviceClient]) -> None:
    assert connect("dev-1").publish(topic, b"x", retain=True) == "Not authorized"


def test_a_device_hears_nothing_of_others_even_with_a_wildcard(
    hub: Hub, connect: Callable[..., DeviceClient]
) -> None:
    spy, other = connect("dev-1"), connect("dev-2")
    for name in ("#", "muster/v1/down/+/directive", "muster/v1/up/dev-2/report", "$SYS/#"):
        spy.subscribe(name)
    hub.publish(topics.down("dev-2", "directive"), b"secret", retain=True)
    other.publish(topics.up("dev-2", "report"), b"secret")
    hub.publish("muster/v1/hub/chunks", b"secret", retain=True)
    hub.publish(topics.down("dev-1", "ack"), b"mine")
    assert spy.next() == (topics.down("dev-1", "ack"), b"mine")


def test_a_device_reads_shared_chunks_and_metadata(
    hub: Hub, connect: Callable[..., DeviceClient]
) -> None:
    device = connect("dev-1")
    hub.publish(topics.tuf("timestamp.json"), b"{}", retain=True)
    hub.publish(CHUNK, b"bytes", retain=True)
    device.subscribe(topics.tuf("timestamp.json"))
    assert device.next() == (topics.tuf("timestamp.json"), b"{}")
    device.subscribe(CHUNK)
    assert device.next() == (CHUNK, b"bytes")


def test_a_device_can_not_take_another_client_id(connect: Callable[..., DeviceClient]) -> None:
    victim = connect("dev-2")
    thief = connect("dev-1", client_id="dev-2")
    assert thief.publish(topics.up("dev-1", "report"), b"x") != "Not authorized"
    assert victim.publish(topics.up("dev-2", "report"), b"x") != "Not authorized"
    assert not victim.disconnected.is_set()


def test_the_hub_can_end_a_device_connection(
    broker: Broker, connect: Callable[..., DeviceClient]
) -> None:
    device = connect("dev-3")
    kick = Hub(broker, client_id="dev-3")
    assert device.disconnected.wait(60)
    kick.client.stop()


def test_without_a_certificate_of_the_authority_nobody_connects(
    broker: Broker, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    stranger.ca.write_bytes(broker.config.ca.read_bytes())
    with pytest.raises((OSError, AssertionError)):
        DeviceClient(stranger, broker.config.port, "dev-1")


RETAINED_CHUNKS, GLUTTONS = 160, 6


def test_devices_that_subscribe_to_everything_and_read_nothing_cost_a_bounded_memory(
    authority: Authority, tmp_path: Path
) -> None:
    """Without the limit each costs the broker a copy of all it retains: 20 MB here, 120 in all."""
    bound = 64 * MIB
    broker = Broker(broker_config(authority, tmp_path / "broker", memory=bound))
    broker.start()
    hub, gluttons = Hub(broker), []
    try:
        chunks = [
            number.to_bytes(2, "big") * (CHUNK_BYTES // 2) for number in range(RETAINED_CHUNKS)
        ]
        for data in chunks:
            hub.publish(topics.chunk(sha256_hex(data)), data, retain=True)
        port = broker.config.port
        for number in range(GLUTTONS):
            wanted = f"{topics.ROOT}/chunk/#" if number % 2 else "#"
            gluttons.append(Glutton(authority, port, f"glutton-{number}", wanted))
        honest = DeviceClient(authority, port, "dev-1")
        for data in (chunks[0], b"fresh" * 1000):
            topic = topics.chunk(sha256_hex(data))
            hub.publish(topic, data, retain=True)
            honest.subscribe(topic)
            assert honest.next() == (topic, data)
        honest.close()
        assert rss_bytes(broker) < bound + 16 * MIB
        assert broker.restarts == 0
    finally:
        for glutton in gluttons:
            glutton.close()
        hub.client.stop()
        broker.stop()


def rss_bytes(broker: Broker) -> int:
    pages = Path(f"/proc/{broker.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_older_than_1_2_is_refused(
    broker: Broker, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(*authority.issue("dev-1"))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection((HOST, broker.config.port)) as connection,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"),
    ):
        context.wrap_socket(connection, server_hostname=HOST)


def test_an_oversized_message_is_never_sent(hub: Hub) -> None:
    with pytest.raises(LimitError, match="over the broker's message limit"):
        hub.client.publish(CHUNK, bytes(600 * 1024))


def test_a_killed_broker_comes_back_with_what_was_saved(
    authority: Authority, tmp_path: Path
) -> None:
    broker = Broker(broker_config(authority, tmp_path / "broker"))
    broker.start()
    hub = Hub(broker)
    try:
        hub.publish(CHUNK, b"kept", retain=True)
        state = tmp_path / "broker" / "mosquitto.db"
        broker.save()
        assert eventually(lambda: state.exists() and b"kept" in state.read_bytes())
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: broker.pid not in (None, first))
        assert broker.restarts == 1
        hub.client.subscribe(CHUNK)
        delivery = hub.inbox.get(timeout=60)
        assert delivery.payload == b"kept"
    finally:
        hub.client.stop()
        broker.stop()
    assert broker.pid is None


def test_a_hub_killed_without_warning_leaves_no_broker(
    authority: Authority, tmp_path: Path
) -> None:
    config = broker_config(authority, tmp_path / "broker")
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from muster_hub.mqtt.broker import Broker, own_user\n"
        "from muster_hub.mqtt.broker_config import BrokerConfig\n"
        "d, port, ca, cert, key = sys.argv[1:]\n"
        f"b = Broker(BrokerConfig(directory=Path(d), host={HOST!r}, port=int(port), ca=Path(ca),"
        " certificate=Path(cert), key=Path(key), run_as=own_user()))\n"
        "b.start(); print(b.pid, flush=True); time.sleep(60)\n"
    )
    paths = [config.directory, config.port, config.ca, config.certificate, config.key]
    hub = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, paths)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert hub.stdout is not None
    pid = int(hub.stdout.readline())
    hub.kill()
    hub.wait()
    hub.stdout.close()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid))
    again = Broker(config)
    again.start()
    again.stop()


def _zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_a_taken_port_is_one_clear_line(authority: Authority, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        broker = Broker(broker_config(authority, tmp_path / "broker", port))
        with pytest.raises(BrokerError, match=f"can't listen on 127.0.0.1:{port}.*choose another"):
            broker.start()


def test_a_broker_that_refuses_its_files_says_why(authority: Authority, tmp_path: Path) -> None:
    config = broker_config(authority, tmp_path / "broker")
    config.key.write_text("not a key")
    with pytest.raises(BrokerError, match=r"did not start.*key"):
        Broker(config).start()


def test_the_configuration_names_every_limit_and_both_listeners(
    authority: Authority, tmp_path: Path
) -> None:
    text = config_text(broker_config(authority, tmp_path, 8883))
    for line in (
        "per_listener_settings false",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.2",
        "max_queued_messages 100000",
        "max_packet_size 528384",
        "set_tcp_nodelay true",
        f"listener 8883 {HOST}",
        f"listener 0 {tmp_path}/admin.sock",
    ):
        assert f"\n{line}\n" in f"\n{text}\n"
    assert "crlfile" not in text


def test_a_path_that_would_start_a_new_line_of_configuration_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="can't hold the path"):
        config_text(broker_config(authority, tmp_path / "a\nallow_anonymous true", free_port()))


def test_only_the_hub_may_write_what_devices_trust() -> None:
    written = [line for line in acl_text().splitlines() if line.startswith("pattern write")]
    assert written
    assert all("/up/%u/" in line for line in written)


def test_the_password_line_is_what_mosquitto_reads() -> None:
    line = password_text("_hub", "secret", b"0123456789ab")
    name, _, rest = line.strip().partition(":")
    assert name == "_hub"
    assert rest.split("$")[1:3] == ["7", "101"]
    assert "secret" not in line
