"""The lease among hubs whose clocks differ: who acts by what it knows has missed nothing."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_hub.reconcile import lease
from muster_hub.reconcile.lease import LEASE_SECONDS, NONE, judge
from muster_hub.storage.store import Store
from support.hub_store import open_store

ROLE = "engine"
MOVES = 120
TICK_SECONDS_MAX = 2.5
"""Between two looks of a stand-by: a pause, a wait with its jitter, and a step."""


@dataclass
class Hub:
    """One that acts in turns: ``seen`` is how many acts of anybody it knows of."""

    name: str
    skew_seconds: float
    seen: int = -1
    epoch: int = NONE


def acts(store: Store, hub: Hub, now: float, done: int) -> bool:
    """Act if the lease lets it, as the engine does; whether it did."""
    with store.write() as session:
        epoch = lease.take(session, ROLE, hub.name, hub.epoch, now + hub.skew_seconds)
    if epoch == NONE:
        return False
    if epoch != hub.epoch:
        assert epoch > hub.epoch
        hub.seen, hub.epoch = done, epoch
    assert hub.seen == done, f"{hub.name} acts by what was true before another acted"
    hub.seen = done + 1
    return True


@pytest.mark.parametrize("seed", range(2))
def test_whatever_clocks_names_and_restarts_nobody_acts_by_what_it_knew_before_another_acted(
    tmp_path: Path, database: str, seed: int
):
    draw = random.Random(seed)
    store = open_store(tmp_path, url=database)
    hubs = [Hub(name, draw.choice([0.0, 4.0, -9.0, 40.0, -3600.0])) for name in "abca"]
    now, done, latest = 1_000_000.0, 0, NONE
    leaders: set[int] = set()
    for _ in range(MOVES):
        now += draw.choice([0.0, 0.5, 3.0, LEASE_SECONDS / 2, LEASE_SECONDS, 60.0])
        number = draw.randrange(len(hubs))
        hub = hubs[number]
        if draw.random() < 0.1:
            with store.write() as session:
                lease.release(session, ROLE, hub.epoch)
        elif acts(store, hub, now, done):
            assert hub.epoch >= latest, "an epoch never goes back"
            done, latest = done + 1, hub.epoch
            leaders.add(number)
        if draw.random() < 0.1:
            hub.epoch = NONE  # killed and started anew
        if draw.random() < 0.05:
            hub.skew_seconds += draw.uniform(-30.0, 30.0)
        for each in hubs:
            with store.write() as session:
                assert lease.fenced(session, ROLE, each.epoch) == (
                    each.epoch == NONE or each.epoch != latest
                )
    assert leaders == {0, 1, 2, 3}
    store.close()


@pytest.mark.parametrize("skew_seconds", [-3600.0, -9.0, -1.0, 0.0, 1.0, 9.0, 3600.0])
def test_whoever_waits_takes_over_from_a_dead_one_in_less_than_ten_seconds_whatever_the_clock_says(
    skew_seconds: float,
):
    expires = 1_000.0 + skew_seconds + LEASE_SECONDS
    waited = [
        tenths / 10
        for tenths in range(600)
        if judge(("a", 1), expires, ("b", NONE), 1_000.0 + tenths / 10) == "take"
    ]
    assert waited[0] <= LEASE_SECONDS
    assert LEASE_SECONDS + TICK_SECONDS_MAX < 10.0


def test_a_lease_is_renewed_before_others_may_take_it():
    for tenths in range(int(LEASE_SECONDS * 10)):
        now = tenths / 10
        if judge(("a", 1), LEASE_SECONDS, ("a", 1), now) == "kept":
            later = now + LEASE_SECONDS / 2 - 0.1
            assert judge(("a", 1), LEASE_SECONDS, ("b", NONE), later) == "stand by"


def test_the_lease_goes_by_the_databases_clock(tmp_path: Path, database: str):
    store = open_store(tmp_path, url=database)
    with store.write() as session:
        before = lease.database_time(session)
        epoch = lease.take(session, ROLE, "a", NONE, before)
    with store.read() as session:
        now = lease.database_time(session)
        assert before <= now < before + 60
        assert lease.kept(session, ROLE, "a", epoch, before)
    store.close()
