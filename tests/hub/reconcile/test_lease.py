"""The lease among hubs whose clocks differ: who acts by what it knows has missed nothing."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_hub.reconcile import lease
from muster_hub.reconcile.lease import LEASE_SECONDS, judge
from muster_hub.storage.store import Store
from support.hub_store import open_store

ROLE = "engine"
MOVES = 120


@dataclass
class Hub:
    """One that acts in turns: ``seen`` is how many acts of anybody it knows of."""

    name: str
    skew_seconds: float
    seen: int = -1


def acts(store: Store, hub: Hub, now: float, done: int) -> bool:
    """Act if the lease lets it, as the engine does; whether it did."""
    with store.write() as session:
        held = lease.hold(session, ROLE, hub.name, now + hub.skew_seconds)
    if held == "new":
        hub.seen = done
    if held is not None:
        assert hub.seen == done, f"{hub.name} acts by what was true before another acted"
        hub.seen = done + 1
    return held is not None


@pytest.mark.parametrize("seed", range(2))
def test_whatever_the_clocks_nobody_acts_by_what_it_knew_before_another_acted(
    tmp_path: Path, database: str, seed: int
):
    draw = random.Random(seed)
    store = open_store(tmp_path, url=database)
    hubs = [Hub(name, draw.choice([0.0, 4.0, -9.0, 40.0, -3600.0])) for name in "abc"]
    now, done = 1_000_000.0, 0
    leaders: set[str] = set()
    for _ in range(MOVES):
        now += draw.choice([0.0, 0.5, 3.0, LEASE_SECONDS / 2, LEASE_SECONDS, 60.0])
        hub = draw.choice(hubs)
        if draw.random() < 0.1:
            with store.write() as session:
                lease.release(session, ROLE, hub.name)
        elif acts(store, hub, now, done):
            done += 1
            leaders.add(hub.name)
        if draw.random() < 0.05:
            hub.skew_seconds += draw.uniform(-30.0, 30.0)
    assert leaders == {"a", "b", "c"}
    store.close()


@pytest.mark.parametrize("skew_seconds", [-3600.0, -9.0, -1.0, 0.0, 1.0, 9.0, 3600.0])
def test_whoever_waits_takes_over_from_a_dead_one_within_a_lease_by_its_own_clock(
    skew_seconds: float,
):
    expires = 1_000.0 + skew_seconds + LEASE_SECONDS
    waited = [
        seconds for seconds in range(60) if judge("a", expires, "b", 1_000.0 + seconds) == "take"
    ]
    assert waited[0] <= LEASE_SECONDS


def test_a_lease_is_renewed_before_others_may_take_it():
    for tenths in range(int(LEASE_SECONDS * 10)):
        now = tenths / 10
        if judge("a", LEASE_SECONDS, "a", now) == "kept":
            assert judge("a", LEASE_SECONDS, "b", now + LEASE_SECONDS / 2 - 0.1) == "stand by"
