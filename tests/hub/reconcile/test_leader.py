"""A part that one process runs at a time: whoever has the lease, and nobody whose term is over."""

import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from muster_hub.reconcile import lease
from muster_hub.reconcile.leader import Leader
from muster_hub.reconcile.lease import LEASE_SECONDS
from muster_hub.storage.store import Store
from support.hub_store import open_store


class Work:
    """What is led: it notes that it runs."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


class Site:
    """Processes on one database whose clock, and theirs, are the test's."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1_000.0
        self.made: list[Work] = []

    def process(self, name: str) -> Leader[Work]:
        def make(epoch: int) -> Work:
            self.made.append(Work(epoch))
            return self.made[-1]

        return Leader(
            self.store, "publisher", name, make,
            clock=lambda _session: self.now, monotonic=lambda: self.now,
        )  # fmt: skip

    def running(self) -> list[int]:
        return [work.epoch for work in self.made if work.running]


@pytest.fixture
def site(tmp_path: Path, database: str):
    store = open_store(tmp_path, url=database)
    yield Site(store)
    store.close()


def test_one_leads_and_another_follows_when_it_falls_silent_or_lets_go(site: Site):
    first, second = site.process("a"), site.process("b")
    first.look()
    second.look()
    assert (site.running(), first.epoch, second.epoch) == ([1], 1, lease.NONE)
    for _ in range(20):
        site.now += 1
        first.look()
        second.look()
    assert site.running() == [1], "renewed in time, it goes on"
    site.now += LEASE_SECONDS + 1
    second.look()
    assert (second.epoch, site.made[1].running) == (2, True)
    first.look()
    assert (site.running(), first.led) == ([2], None), "woken up, the first ends its term"
    with site.store.read() as session:
        assert lease.fenced(session, "publisher", 1)
        assert not lease.fenced(session, "publisher", 2)
    second.start()
    second.stop()
    first.look()
    assert site.running() == [3], "one that ends lets go at once"


def test_one_started_anew_under_its_name_takes_over_and_the_one_before_it_ends(site: Site):
    before, after = site.process("a"), site.process("a")
    before.look()
    after.look()
    before.look()
    assert (site.running(), after.epoch) == ([2], 2)


def test_a_leader_that_loses_the_database_ends_with_its_lease_and_not_before(tmp_path: Path):
    site = Site(open_store(tmp_path))
    leader = site.process("a")
    leader.look()
    site.store.close()
    (tmp_path / "hub.db").rename(tmp_path / "gone.db")
    (tmp_path / "hub.db").mkdir()
    site.now += LEASE_SECONDS - 1
    with pytest.raises(OperationalError):
        leader.look()
    assert site.running() == [1]
    site.now += 2
    with pytest.raises(OperationalError):
        leader.look()
    assert site.running() == []


def test_of_processes_that_ask_at_once_one_leads(site: Site):
    several = [site.process(name) for name in "abcd"]
    threads = [threading.Thread(target=each.look) for each in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.running()) == 1
