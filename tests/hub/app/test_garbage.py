"""A hub that holds a fleet looks at all of it now and then, not at each quarter that it grows."""

import gc
import weakref

import pytest

from muster_hub.app.garbage import ALL_SECONDS, THRESHOLDS, Garbage


class Node:
    def __init__(self):
        self.me = self


@pytest.fixture
def clock():
    """Python's own settings afterwards are what they were."""
    before = gc.get_threshold()
    yield [0.0]
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.collect()


def full_collections():
    return gc.get_stats()[2]["collections"]


def test_a_fleet_that_is_read_into_memory_starts_no_full_collection(clock):
    Garbage(lambda: clock[0]).started()
    before = full_collections()
    fleet = [{"id": str(number), "labels": {"site": "s"}} for number in range(300_000)]
    assert full_collections() == before
    assert gc.get_threshold() == THRESHOLDS
    del fleet


def test_garbage_that_has_grown_old_goes_when_its_hour_comes(clock):
    garbage = Garbage(lambda: clock[0])
    node = Node()
    found = weakref.ref(node)
    garbage.started()
    del node
    garbage.look()
    assert found() is not None, "not yet"
    clock[0] += 1.2 * ALL_SECONDS
    garbage.look()
    assert found() is None
    before = full_collections()
    garbage.look()
    assert full_collections() == before, "and then not for a while"
