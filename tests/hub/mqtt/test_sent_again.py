"""A row that comes again counts once, though its time is told anew or it is gone by then."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import delete, select

from muster_hub.mqtt.commit import Committed, commit
from muster_hub.mqtt.inbound import read
from muster_hub.storage import models, partitions
from muster_hub.storage.store import Store
from muster_protocol.wire import limits, topics
from support.hub_store import EPOCH, batch, event, open_store, summary

MIDNIGHT = 20_000 * 86_400.0
TELEMETRY = topics.up("dev-1", "telemetry")
DRAWS = 12
"""Drawn cases on each database."""
EPOCHS = itertools.count(1)


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    store = open_store(tmp_path, "dev-1", url=database)
    yield store
    store.close()


def take(store: Store, payload: bytes, now: float, topic: str = TELEMETRY) -> Committed:
    with store.write() as session:
        return commit(session, [read(topic, payload, now)], now)


def counted(store: Store, epoch: bytes) -> list[int]:
    with store.read() as session:
        rows = session.exec(select(models.SummaryWindow).filter_by(epoch=epoch.hex()))
        return sorted(row.n for row in rows)


def ahead(store: Store) -> list[int]:
    with store.read() as session:
        return sorted(row.sequence for row in session.exec(select(models.Ahead)))


@settings(max_examples=DRAWS, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True),
            st.floats(-90_000.0, 90_000.0),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_in_any_order_and_across_midnight_each_row_counts_once(
    shared_store: Store, sent: list[tuple[list[int], float]]
):
    epoch = next(EPOCHS).to_bytes(12, "big")
    seen: set[int] = set()
    for sequences, offset in sent:
        # A device without a clock says how long ago by its own: each time another time.
        payload = batch({n: summary(n) for n in sequences}, epoch=epoch)
        done = take(shared_store, payload, MIDNIGHT + offset)
        assert done.duplicates == len(seen & set(sequences))
        seen |= set(sequences)
        whole = next(n for n in range(14) if n + 1 not in seen)
        assert [ack.sequence for _, ack in done.acks] == [whole]
        with shared_store.read() as session:
            known = session.exec(select(models.Ahead).filter_by(epoch=epoch.hex())).all()
        assert {row.sequence for row in known} == {n for n in seen if n > whole}
    assert counted(shared_store, epoch) == sorted(seen)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "partitioned"])
def shared_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """One database for all that is drawn: each draw is an epoch of its own."""
    url = None
    if request.param != "sqlite":
        url = request.getfixturevalue("postgres_server").fresh()
    made = open_store(tmp_path_factory.mktemp("db"), "dev-1", url=url)
    if request.param == "partitioned":
        with made.write() as session:
            # Of all that is drawn, what is before this week is in the plain table of before.
            then = MIDNIGHT - partitions.BOUND_DAYS * partitions.DAY_SECONDS
            assert partitions.step(session.connection(), 14, then) > 0
            assert partitions.step(session.connection(), 14, MIDNIGHT) > 0
    yield made
    made.close()


def test_a_window_beyond_a_gap_that_was_deleted_counts_no_second_time(store: Store):
    take(store, batch({3: summary(3)}), MIDNIGHT)
    with store.write() as session:
        session.exec(delete(models.SummaryWindow))  # As it is once it is in its hour and day.
    done = take(store, batch({3: summary(3)}), MIDNIGHT + 60.0)
    assert (done.duplicates, counted(store, EPOCH)) == (1, [])
    take(store, batch({1: summary(1), 2: summary(2)}), MIDNIGHT + 120.0)
    assert (counted(store, EPOCH), ahead(store)) == ([1, 2], [])


def test_what_is_known_beyond_a_mark_is_bounded_however_a_device_jumps(store: Store):
    most = limits.IN_FLIGHT_ROWS_MAX
    drawn = random.Random(7)
    for _ in range(60):
        take(store, batch({drawn.randint(2, 10**9): summary(1)}), MIDNIGHT)
    assert len(ahead(store)) <= most
    take(store, batch({10**9 + 2 * n: summary(1) for n in range(1, most + 1)}), MIDNIGHT)
    assert 0 < len(ahead(store)) <= most


def test_a_stream_whose_mark_was_forgotten_goes_on_where_its_rows_stand(store: Store):
    take(store, batch({n: summary(n) for n in (1, 2, 3, 5)}), MIDNIGHT)
    with store.write() as session:
        session.exec(delete(models.Stream))
    assert ahead(store) == []  # what was known beyond the mark went with it
    done = take(store, batch({3: summary(3), 5: summary(5), 6: summary(6)}), MIDNIGHT + 86_400.0)
    assert (done.duplicates, [ack.sequence for _, ack in done.acks]) == (2, [3])
    assert (counted(store, EPOCH), ahead(store)) == ([1, 2, 3, 5, 6], [5, 6])


def test_each_stream_of_an_epoch_is_known_apart(store: Store):
    take(store, batch({2: summary(2)}), MIDNIGHT)
    done = take(store, batch({2: event(), 1: event()}), MIDNIGHT, topics.up("dev-1", "event"))
    assert (done.duplicates, [ack.sequence for _, ack in done.acks]) == (0, [2])
    assert ahead(store) == [2]
