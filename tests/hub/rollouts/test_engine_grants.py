"""Swap permits: budgets hold at the moment of swapping, however many come back at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select, update

from muster_hub.errors import Conflict
from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.rollouts import commands, reading
from muster_hub.storage import models
from muster_protocol.wire import messages, topics
from muster_protocol.wire.messages import Grant, GrantRequest
from support.hub_engine import SLOT, Plant

LINE = tuple(f"p{n:03}" for n in range(6))


@pytest.fixture
def plant(tmp_path: Path, database: str) -> Iterator[Plant]:
    plant = Plant(tmp_path, *LINE, url=database)
    for number, device in enumerate(LINE):
        plant.change(device, labels={"line": "ab"[number % 2]})
    plant.publish("1")
    plant.publish("2")
    yield plant
    plant.close()


class Asker:
    """Devices that ask for a permit as agents do; answers are read from the outbox."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self._asked = 0

    def ask(self, *devices: str) -> dict[str, Grant]:
        """Ask for each device, run the engine once, and return the answers to this asking."""
        nonces = {}
        requests = []
        for device in devices:
            self._asked += 1
            nonce = self._asked.to_bytes(12, "big")
            nonces[device] = nonce
            held = self.plant.directive(device)
            assert held is not None
            goal = held.slots[SLOT].champion
            request = GrantRequest(
                nonce=nonce, slot=SLOT, manifest=goal.manifest, generation=held.generation
            )
            topic = topics.up(device, "grant")
            requests.append(read(topic, messages.encode(request), self.plant.now))
        with self.plant.store.write() as session:
            commit(session, requests, self.plant.now)
        self.plant.tick()
        return {device: self.answer(device, nonce) for device, nonce in nonces.items()}

    def answer(self, device: str, nonce: bytes) -> Grant:
        with self.plant.store.read() as session:
            rows = session.exec(
                select(models.OutboxMessage).where(
                    models.OutboxMessage.topic == topics.down(device, "grant")
                )
            ).all()
        answers = [messages.decode(row.payload, Grant) for row in rows]
        assert not any(row.retain for row in rows)
        (answer,) = [answer for answer in answers if answer.nonce == nonce]
        return answer

    def given(self, *devices: str) -> list[str]:
        return [device for device, answer in self.ask(*devices).items() if answer.given]


def change_all(plant: Plant, **fields: object) -> None:
    with plant.store.write() as session:
        session.exec(update(models.Device).values(**fields))


def settle(plant: Plant, device: str, version: str, state: str = "committed") -> None:
    """Have a device report, a moment after whatever it was told, how its swap ended."""
    plant.now += 0.1
    plant.report(device, version, state)
    plant.change(device, reported=plant.now)


def test_each_line_lets_one_go_until_it_has_shown_that_it_is_through(plant: Plant):
    asker = Asker(plant)
    number = plant.start("1", budgets=[{"group_by": ["line"], "max_unavailable": 1}])
    plant.tick()
    directive = plant.directive("p000")
    assert directive is not None
    assert directive.slots[SLOT].swap == "grant"
    assert asker.given(*LINE) == ["p000", "p001"]
    answer = asker.ask("p002")["p002"]
    assert answer.reason == (
        "the budget of line=a lets 1 of 3 swap at once; swapping or silent since: p000"
    )
    assert answer.retry_seconds > 0
    plant.tick(100_000)
    for device in LINE:
        plant.change(device, last_seen=plant.now)
    assert asker.given("p002") == [], "p000 is silent: nobody knows whether it is swapping"
    settle(plant, "p000", "1")
    assert asker.given("p002", "p004") == ["p002"]
    with plant.store.read() as session:
        view = reading.rollout(session, number, plant.now)
    assert view is not None
    assert {item["device"]: item["given_at"] is not None for item in view["permits"]} == {
        "p001": True, "p002": True, "p003": False, "p004": False, "p005": False,
    }  # fmt: skip


def test_a_line_that_powers_up_together_stays_within_its_budget(tmp_path: Path):
    devices = tuple(f"p{n:03}" for n in range(300))
    plant = Plant(tmp_path)
    plant.publish("1")
    asker = Asker(plant)
    with plant.store.write() as session:
        labels = {"line": "a"}
        session.add_all(models.Device(id=device, created=0.0, labels=labels) for device in devices)
    plant.change("p000", online=True, last_seen=plant.now)
    plant.start("1", budgets=[{"group_by": ["line"], "max_unavailable": "5%"}])
    plant.tick()
    assert asker.given("p000") == ["p000"]
    settle(plant, "p000", "1")
    plant.tick()
    change_all(plant, online=True, last_seen=plant.now)
    first = asker.given(*devices[1:])
    assert len(first) == 15
    for device in first[:10]:
        settle(plant, device, "1")
    second = asker.given(*sorted(set(devices[1:]) - set(first)))
    assert len(second) == 10
    plant.close()


def test_asking_twice_costs_no_second_place_and_one_message_is_answered_once(plant: Plant):
    asker = Asker(plant)
    plant.start("1", budgets=[{"max_unavailable": 1}])
    plant.tick()
    assert asker.given("p000") == ["p000"]
    assert asker.given("p000") == ["p000"]
    assert asker.given("p001") == []
    with plant.store.read() as session:
        row = session.get(models.SwapGrant, ("p000", SLOT))
    assert row is not None
    again = GrantRequest(
        nonce=bytes.fromhex(row.nonce), slot=SLOT, manifest=row.manifest, generation=row.generation
    )
    with plant.store.write() as session:
        data = messages.encode(again)
        commit(session, [read(topics.up("p000", "grant"), data, plant.now)], plant.now)
    plant.tick()
    asker.answer("p000", bytes.fromhex(row.nonce))


def test_a_paused_rollout_and_a_closed_window_give_no_permit(plant: Plant):
    asker = Asker(plant)
    plant.now = 1_767_355_200.0  # 2 January 2026, 12:00 UTC
    for device in LINE:
        plant.change(device, last_seen=plant.now)
    number = plant.start("1", windows=[{"start": "22:00", "end": "23:00"}])
    plant.tick()
    assert asker.ask("p000")["p000"].reason == "its maintenance window opens Fri 02 Jan 22:00 (UTC)"
    with plant.store.write() as session:
        commands.pause_rollout(session, number, by="test", now=plant.now)
    assert asker.ask("p000")["p000"].reason == f"rollout {number} is paused"


def test_going_back_from_a_bad_release_needs_no_room(plant: Plant):
    asker = Asker(plant)
    budgets = [{"max_unavailable": 1}]
    number = plant.start("1", budgets=budgets)
    plant.tick()
    for device in LINE:
        settle(plant, device, "1")
    plant.tick()
    assert plant.rollout(number).state == "completed"
    plant.start("2", budgets=budgets)
    plant.tick()
    assert asker.given("p000") == ["p000"]
    settle(plant, "p000", "2", "failed")
    plant.tick()
    plant.tick()
    assert plant.versions() == dict.fromkeys(LINE, "1")
    assert asker.given(*LINE) == list(LINE)


def test_a_request_about_an_older_directive_gets_none(plant: Plant):
    plant.start("1", budgets=[{"max_unavailable": 1}])
    plant.tick()
    request = GrantRequest(nonce=bytes(12), slot=SLOT, manifest="ab" * 32, generation=1)
    with plant.store.write() as session:
        data = messages.encode(request)
        commit(session, [read(topics.up("p000", "grant"), data, plant.now)], plant.now)
    plant.tick()
    assert Asker(plant).answer("p000", bytes(12)).reason == "a newer directive is on its way"


def test_a_budget_that_can_not_be_met_starts_nothing(plant: Plant):
    with pytest.raises(Conflict, match=r"min_available 3 per line can never be met in line=a"):
        plant.start("1", budgets=[{"group_by": ["line"], "min_available": 3}])
