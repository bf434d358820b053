"""The engine killed by SIGKILL at every statement of its step: nothing is lost or doubled.

And of two engines on one database only one acts.
"""

import os
import signal
from pathlib import Path

from sqlalchemy import event
from sqlmodel import select

from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.reconcile.engine import Engine
from muster_hub.registry.published import Bundles
from muster_hub.storage import models
from muster_hub.storage.store import Store
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import GrantRequest
from support.hub_engine import SLOT, FixedCatalogue, Plant

DEVICES = ("d1", "d2", "d3")


def engine_of(plant: Plant, store: Store, holder: str = "engine") -> Engine:
    """Another engine on the plant's database, as after a restart."""
    return Engine(
        store, FixedCatalogue(), plant.signing, Bundles(store, plant.blobs), plant.settings,
        holder=holder, now=lambda: plant.now,
    )  # fmt: skip


def die_at(engine: object, nth: int) -> None:
    """Kill this very process before its ``nth`` commit or statement that does more than read."""
    left = [nth]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def count_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SELECT") or statement.endswith("FOR UPDATE"):
            count()

    event.listen(engine, "before_cursor_execute", count_statement)
    event.listen(engine, "commit", count)


def killed_at(plant: Plant, url: str, nth: int) -> bool:
    """Run a step in a child that dies at its ``nth`` statement; False when it came to the end."""
    child = os.fork()
    if child == 0:
        try:
            store = Store(url)
            engine = engine_of(plant, store)
            die_at(store.engine, nth)
            engine.step()
            os._exit(0)
        except BaseException:  # a child of pytest must never return into it
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the step itself failed"
    return os.WIFSIGNALED(status)


def outbox(plant: Plant, leaf: str) -> list[str]:
    with plant.store.read() as session:
        found = session.exec(select(models.OutboxMessage.topic)).all()
    return sorted(topic for topic in found if topic.endswith(f"/{leaf}"))


def test_killed_at_any_statement_a_step_happens_whole_or_not_at_all(tmp_path: Path, database: str):
    plant = Plant(tmp_path, *DEVICES, url=database)
    plant.publish("1")
    number = plant.start("1", budgets=[{"max_unavailable": 1}])
    plant.now += 1
    plant.store.engine.dispose()
    deaths = 0
    whole = [topics.down(device, "directive") for device in DEVICES]
    while killed_at(plant, database, deaths + 1):
        deaths += 1
        assert outbox(plant, "directive") in ([], whole)
        assert set(plant.states(number)) in (set(), set(DEVICES))
        assert (plant.versions() != {}) == (outbox(plant, "directive") != [])
        plant.store.engine.dispose()
    assert deaths > 10
    assert plant.versions() == dict.fromkeys(DEVICES, "1")
    assert outbox(plant, "directive") == whole
    with plant.store.read() as session:
        steps = session.exec(select(models.RolloutStep.why)).all()
    assert steps in (["started", "asking"], ["started", "asking", "waiting"])
    plant.close()


def test_killed_at_any_statement_leave_is_given_once(tmp_path: Path, database: str):
    plant = Plant(tmp_path, *DEVICES, url=database)
    plant.publish("1")
    plant.start("1", budgets=[{"max_unavailable": 1}])
    plant.tick()
    for device in DEVICES:
        held = plant.directive(device)
        assert held is not None
        goal = held.slots[SLOT].champion
        request = GrantRequest(
            nonce=bytes(12), slot=SLOT, manifest=goal.manifest, generation=held.generation
        )
        with plant.store.write() as session:
            data = messages.encode(request)
            commit(session, [read(topics.up(device, "grant"), data, plant.now)], plant.now)
    plant.store.engine.dispose()
    deaths = 0
    while killed_at(plant, database, deaths + 1):
        deaths += 1
    assert outbox(plant, "grant") == [topics.down(device, "grant") for device in DEVICES]
    with plant.store.read() as session:
        rows = session.exec(select(models.SwapGrant)).all()
    assert sorted(row.device for row in rows if row.given_at is not None) == ["d1"]
    assert all(row.answered for row in rows)
    plant.close()


def test_of_two_engines_one_acts_and_the_other_takes_over(tmp_path: Path, database: str):
    plant = Plant(tmp_path, *DEVICES, url=database)
    first, second = engine_of(plant, plant.store, "a"), engine_of(plant, plant.store, "b")
    assert first.step()
    plant.publish("1")
    plant.start("1")
    plant.now += 5
    assert not second.step()
    assert plant.versions() == {}
    plant.now += 60
    assert second.step(), "the first has not renewed its lease"
    assert plant.versions() == dict.fromkeys(DEVICES, "1")
    assert not first.step(), "woken up, it decides nothing any more"
    restarted = engine_of(plant, plant.store, "b")
    assert restarted.step(), "a restarted one need not wait for its own lease"
    plant.close()


def test_a_clock_that_was_ahead_locks_no_engine_out(tmp_path: Path):
    plant = Plant(tmp_path, *DEVICES)
    plant.now += 1_000_000
    assert engine_of(plant, plant.store, "a").step()
    plant.now -= 1_000_000
    assert engine_of(plant, plant.store, "b").step()
    plant.close()
