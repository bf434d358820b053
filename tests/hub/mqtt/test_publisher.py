"""The broker holds what it should: decided messages, the catalogue, chunks; also after it died."""

import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from muster_hub.mqtt.broker import Broker
from muster_hub.mqtt.publisher import Publisher
from muster_hub.mqtt.wants import BURST_CHUNKS, CHUNKS_PER_SECOND, COALESCE_SECONDS, WantDesk
from muster_hub.storage import models
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.store import Store
from muster_protocol.wire import topics
from support.broker_kit import Authority, DeviceClient, broker_config
from support.hub_store import open_store
from support.waiting import eventually


class Files:
    """A catalogue of plain files."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"1.targets.json": b"{}", "timestamp.json": b"{1}"}

    def files_to_publish(self) -> Mapping[str, bytes]:
        return dict(self.files)


class Bundle:
    """Chunks from real blobs; every device may have all of them but one."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.names: dict[str, int] = {}
        self.reads = 0
        self.forbidden = ""

    def add(self, data: bytes) -> str:
        name = self._blobs.put(data)
        self.names[name] = len(data)
        return name

    def live(self) -> list[Mapping[str, int]]:
        return [dict(self.names)]

    def of_directive(self, device: str) -> Collection[str]:
        return self.names.keys() - {self.forbidden} if device == "dev-1" else ()

    def read(self, sha256: str) -> bytes:
        self.reads += 1
        return self._blobs.read(sha256)


class Hub:
    def __init__(self, directory: Path, store: Store, broker: Broker) -> None:
        self.starts: list[float] = []
        self.store = store
        self.broker = broker
        self.catalogue = Files()
        self.blobs = Blobs(directory / "blobs")
        self.chunks = Bundle(self.blobs)
        self.publisher = self.make()

    def make(self) -> Publisher:
        return Publisher(
            self.store, self.broker.address, self.catalogue, self.chunks, save=self.broker.save
        )

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        with self.store.write() as session:
            session.add(
                models.OutboxMessage(topic=topic, payload=payload, retain=retain, created=0.0)
            )
        self.publisher.wake()

    def waiting(self) -> int:
        with self.store.read() as session:
            rows = session.exec(select(models.OutboxMessage)).all()
        return sum(1 for row in rows if row.published_at is None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def hub(authority: Authority, tmp_path: Path) -> Iterator[Hub]:
    store = open_store(tmp_path, "dev-1", "dev-2")
    starts: list[float] = []
    broker = Broker(
        broker_config(authority, tmp_path / "broker"), started=lambda: starts.append(time.time())
    )
    broker.start()
    hub = Hub(tmp_path, store, broker)
    hub.starts = starts
    yield hub
    hub.publisher.stop()
    broker.stop()
    store.close()


@pytest.fixture
def device(hub: Hub, authority: Authority) -> Iterator[DeviceClient]:
    client = DeviceClient(authority, hub.broker.config.port, "dev-1")
    yield client
    client.close()


def test_decided_messages_are_published_in_order_and_marked(hub: Hub, device: DeviceClient):
    device.subscribe(topics.down("dev-1", "ack"))
    for number in range(450):
        hub.send(topics.down("dev-1", "ack"), b"%d" % number)
    hub.publisher.start()
    assert [device.next()[1] for _ in range(450)] == [b"%d" % number for number in range(450)]
    assert eventually(lambda: hub.waiting() == 0)


def test_a_device_that_comes_later_finds_catalogue_directive_and_chunks(
    hub: Hub, device: DeviceClient
):
    chunk = hub.chunks.add(b"model bytes")
    hub.publisher.start()
    hub.send(topics.down("dev-1", "directive"), b"goal", retain=True)
    assert eventually(lambda: hub.waiting() == 0 and hub.chunks.reads == 1)
    for topic, payload in {
        topics.chunk(chunk): b"model bytes",
        topics.down("dev-1", "directive"): b"goal",
        topics.tuf("timestamp.json"): b"{1}",
        topics.tuf("1.targets.json"): b"{}",
    }.items():
        device.subscribe(topic)
        assert device.next() == (topic, payload)


def test_a_changed_catalogue_is_published_leaves_first(hub: Hub, device: DeviceClient):
    hub.publisher.start()
    device.subscribe(topics.tuf("timestamp.json"))
    assert device.next()[1] == b"{1}"
    device.subscribe(topics.tuf("2.targets.json"))
    hub.catalogue.files = {"2.targets.json": b"{2}", "timestamp.json": b"{2}"}
    hub.publisher.wake()
    assert [device.next()[0] for _ in range(2)] == [
        topics.tuf("2.targets.json"),
        topics.tuf("timestamp.json"),
    ]


def test_each_chunk_is_published_once_even_by_the_next_hub(hub: Hub, device: DeviceClient):
    for number in range(20):
        hub.chunks.add(b"chunk %d" % number)
    hub.publisher.start()
    state = hub.broker.config.directory / "mosquitto.db"
    assert eventually(lambda: state.exists() and topics.hub_chunks().encode() in state.read_bytes())
    hub.publisher.stop()
    assert hub.chunks.reads == 20
    hub.publisher = hub.make()
    added = hub.chunks.add(b"one more")
    hub.chunks.names.pop(added)
    hub.publisher.start()
    assert eventually(lambda: hub.publisher.connected)
    hub.send(topics.down("dev-1", "ack"), b"x")
    assert eventually(lambda: hub.waiting() == 0)
    hub.chunks.names[added] = 8
    hub.publisher.wake()
    device.subscribe(topics.chunk(added))
    assert device.next() == (topics.chunk(added), b"one more")
    assert hub.chunks.reads == 21


def test_a_broker_that_lost_its_memory_is_filled_again(hub: Hub, authority: Authority):
    chunk = hub.chunks.add(b"model bytes")
    hub.publisher.start()
    with hub.store.write() as session:
        session.add(
            models.DirectiveRow(
                device="dev-1", epoch=1, generation=1, content_sha256="", payload=b"",
                envelope=b"goal", issued=0, expires=1,
            )
        )  # fmt: skip
    assert eventually(lambda: hub.chunks.reads == 1)
    pid = hub.broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for file in hub.broker.config.directory.glob("mosquitto.db*"):
        file.unlink()
    assert eventually(lambda: len(hub.starts) == 2)
    device = DeviceClient(authority, hub.broker.config.port, "dev-1")
    try:
        for topic in (
            topics.tuf("timestamp.json"),
            topics.down("dev-1", "directive"),
            topics.chunk(chunk),
        ):
            device.subscribe(topic)
        found = {device.next()[0] for _ in range(3)}
        assert topics.chunk(chunk) in found
        assert len(found) == 3
    finally:
        device.close()


def test_a_wanted_chunk_is_published_again_to_those_who_may_ask(hub: Hub, device: DeviceClient):
    allowed, forbidden = hub.chunks.add(b"mine"), hub.chunks.add(b"not mine")
    hub.chunks.forbidden = forbidden
    hub.publisher.start()
    assert eventually(lambda: hub.chunks.reads == 2)
    for name in (forbidden, allowed):
        device.subscribe(topics.chunk(name))
        device.next()
    hub.publisher.want("dev-2", (allowed,))
    hub.publisher.want("dev-1", (forbidden, allowed))
    assert device.next() == (topics.chunk(allowed), b"mine")
    assert hub.chunks.reads == 3


def test_a_chunk_altered_on_the_hubs_disk_is_never_published(
    hub: Hub, device: DeviceClient, tmp_path: Path
):
    bad, good = hub.chunks.add(b"before"), hub.chunks.add(b"good")
    (tmp_path / "blobs" / bad[:2] / bad).write_bytes(b"after")
    hub.publisher.start()
    device.subscribe(topics.chunk(bad))
    device.subscribe(topics.chunk(good))
    assert device.next() == (topics.chunk(good), b"good")
    assert device.received.empty()


def test_a_retired_chunk_is_cleared(hub: Hub, device: DeviceClient):
    chunk = hub.chunks.add(b"old")
    hub.publisher.start()
    device.subscribe(topics.chunk(chunk))
    assert device.next()[1] == b"old"
    hub.chunks.names.clear()
    hub.publisher.wake()
    assert device.next() == (topics.chunk(chunk), b"")


def test_wants_of_many_devices_for_one_chunk_are_answered_once():
    desk = WantDesk()
    answers = [desk.answer(f"d{n}", ["a"], {"a"}, 0.0) for n in range(50)]
    assert answers == [["a"]] + [[]] * 49
    assert desk.answer("d1", ["a"], {"a"}, COALESCE_SECONDS) == ["a"]


def test_wants_for_what_a_device_has_no_business_with_are_refused():
    desk = WantDesk()
    assert desk.answer("d", ["a", "b"], {"b"}, 0.0) == ["b"]
    assert desk.refused == 1


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 64)), max_size=40))
def test_no_device_gets_more_than_its_share(asks):
    desk = WantDesk()
    now, given_, number = 0.0, 0, 0
    for pause, count in asks:
        now += pause
        wanted = [f"c{number + k}" for k in range(count)]
        number += count
        given_ += len(desk.answer("d", wanted, set(wanted), now))
        assert given_ <= BURST_CHUNKS + CHUNKS_PER_SECOND * now + 1e-6
