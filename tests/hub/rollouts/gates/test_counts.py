"""Every count that a device's summary holds can be read by a gate, without a column of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.rollouts.gates import sums
from muster_hub.storage.store import Store
from muster_protocol.signals import summary_wire
from muster_protocol.signals.summary import TALLY_NAMES, Summary, Tally
from muster_protocol.wire import topics
from support.hub_store import batch, open_store, stamp

MANIFEST = "ab" * 32
NOW = 1_000_000.0


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[Store]:
    store = open_store(tmp_path, "dev-1", "dev-2", url=database)
    yield store
    store.close()


def send(store: Store, device: str, *tallies: Tally) -> None:
    """Take in a window of each tally, as it comes from a device."""
    windows = {
        number: summary_wire.encode(
            Summary("digits", "2", MANIFEST, stamp(), stamp(), counts=tally)
        )
        for number, tally in enumerate(tallies, 1)
    }
    with store.write() as session:
        commit(session, [read(topics.up(device, "telemetry"), batch(windows), NOW)], NOW)


def test_all_counts_are_summed_for_each_device(store: Store) -> None:
    whole = Tally(*range(1, len(TALLY_NAMES) + 1))
    send(store, "dev-1", whole, whole)
    send(store, "dev-2", Tally(inferences=5))
    names = (*TALLY_NAMES, "errors")
    with store.read() as session:
        found = sums.read(
            session, ["dev-1", "dev-2"], model="digits", since=0.0, until=2 * NOW, counts=names
        )
    twice = {name: 2.0 * n for name, n in whole.named().items()}
    assert found["dev-1"].counts == twice | {"errors": 2.0 * whole.errors}
    assert found["dev-2"].counts == dict.fromkeys(names, 0.0) | {"inferences": 5.0}
    assert found["dev-1"].count("labels_right", "labels_wrong") == (
        twice["labels_right"] + twice["labels_wrong"]
    )
    assert found["dev-2"].count("a count nobody asked for") == 0.0
