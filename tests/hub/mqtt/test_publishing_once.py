"""A message the broker has taken is not published again, however busy the database is."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from muster_hub.mqtt.publisher import OUTBOX_ROWS_MAX, Publisher
from muster_hub.settings.database import sqlite_url
from muster_hub.storage import models
from muster_hub.storage.store import Store
from muster_hub.storage.tables import METADATA
from support.sending import MemorySender


class BusyStore(Store):
    """A database that refuses as many writes as ``busy`` says."""

    busy = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.busy:
            self.busy -= 1
            raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))
        with super().write() as session:
            yield session


class Nothing:
    """Implements Catalogue and Chunks, both empty."""

    def files_to_publish(self) -> Mapping[str, bytes]:
        return {}

    def live(self) -> list[Mapping[str, int]]:
        return []

    def of_directive(self, device: str) -> Collection[str]:
        del device
        return ()

    def read(self, sha256: str) -> bytes:
        raise KeyError(sha256)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BusyStore]:
    store = BusyStore(sqlite_url(tmp_path / "hub.db"))
    METADATA.create_all(store.engine)
    yield store
    store.close()


@pytest.fixture
def broker() -> MemorySender:
    return MemorySender()


@pytest.fixture
def publisher(store: BusyStore, broker: MemorySender) -> Publisher:
    nothing = Nothing()
    return Publisher(store, None, nothing, nothing, save=lambda: None, sender=broker)


def decide(store: BusyStore, messages: int) -> list[str]:
    topics = [f"muster/v1/down/dev-{number}/directive" for number in range(messages)]
    with store.write() as session:
        session.add_all(
            models.OutboxMessage(topic=topic, payload=b"", retain=True, created=0.0)
            for topic in topics
        )
    return topics


def waiting(store: BusyStore) -> int:
    with store.read() as session:
        rows = session.exec(select(models.OutboxMessage.published_at)).all()
    return rows.count(None)


def test_what_could_not_be_marked_is_marked_later_and_not_sent_again(
    store: BusyStore, broker: MemorySender, publisher: Publisher
) -> None:
    topics = decide(store, 20)
    store.busy = 3
    for _ in range(3):
        with pytest.raises(OperationalError):
            publisher.step()
    publisher.step()
    assert broker.topics == topics
    assert waiting(store) == 0


def test_more_than_are_read_at_once_are_published_in_one_step_and_in_order(
    store: BusyStore, broker: MemorySender, publisher: Publisher
) -> None:
    topics = decide(store, 2 * OUTBOX_ROWS_MAX + 1)
    publisher.step()
    assert broker.topics == topics
    assert waiting(store) == 0


def test_what_a_full_connection_did_not_take_is_sent_by_the_next_step(
    store: BusyStore, broker: MemorySender, publisher: Publisher
) -> None:
    topics = decide(store, 9)
    broker.room = 4
    publisher.step()
    broker.room = 100
    publisher.step()
    assert broker.topics == topics
