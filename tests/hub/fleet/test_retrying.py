"""A fresh try at what a device has refused: by an operator, and by a new rollout of the version."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import UNSET
from sqlmodel import select

from muster_hub.errors import Conflict, NotFound
from muster_hub.fleet import retrying
from muster_hub.rollouts import commands
from muster_hub.storage import models
from support.hub_engine import SLOT, Plant
from support.hub_kit import API, open_kit

KNOWS = {"agent_version": "2", "understands": ["attempt"]}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """Both devices were asked for version 1 and failed it; the rollout has stopped."""
    plant = Plant(tmp_path, "d1", "old")
    plant.publish("1")
    for device, facts in (("d1", KNOWS), ("old", {"agent_version": "1"})):
        plant.change(device, report={"facts": facts})
    plant.start("1", failures_allowed=5)
    plant.tick()
    for device, facts in (("d1", KNOWS), ("old", {"agent_version": "1"})):
        fail(plant, device, facts)
    plant.tick()
    yield plant
    plant.close()


@pytest.fixture
def kit(tmp_path):
    made = open_kit(tmp_path)
    yield made
    made.close()


def fail(plant: Plant, device: str, facts: dict) -> None:
    plant.report(device, "1", "failed", refusal="worker_died")
    with plant.store.read() as session:
        report = session.get(models.Device, device).report
    plant.change(device, report=report | {"facts": facts})


def start_again(plant: Plant) -> int:
    with plant.store.write() as session:
        commands.abort_rollout(session, 1, by="ann", now=plant.now)
    number = plant.start("1", failures_allowed=0)
    plant.tick()
    return number


def attempt(plant: Plant, device: str):
    return plant.directive(device).slots[SLOT].attempt


def retry(plant: Plant, device: str, slot: str | None = None) -> list[str]:
    with plant.store.write() as session:
        row = session.get(models.Device, device)
        return retrying.retry(session, row, slot=slot, by="token:ann", now=plant.now)


def test_the_first_rollout_of_a_version_names_no_attempt(plant):
    first = plant.messages("d1")[0]
    assert first is not None
    assert first.slots[SLOT].attempt is UNSET


def test_a_device_that_failed_in_a_rollout_still_running_is_asked_by_it_once_more(plant):
    assert plant.states(1) == {"d1": "failed", "old": "failed"}
    assert plant.rollout(1).state == "running"
    assert retry(plant, "d1") == [SLOT]
    plant.tick()
    assert attempt(plant, "d1") == "0.1"
    assert plant.states(1) == {"d1": "targeted", "old": "failed"}


def test_another_rollout_of_the_same_version_is_a_fresh_try_and_does_not_fail_on_the_old(plant):
    number = start_again(plant)
    assert attempt(plant, "d1") == f"{number}.0"
    assert plant.states(number) == {"d1": "targeted", "old": "targeted"}
    assert plant.rollout(number).state == "running"


def test_an_agent_that_knows_no_attempts_is_told_none_and_its_retry_is_a_clear_error(plant):
    start_again(plant)
    assert attempt(plant, "old") is UNSET
    with pytest.raises(Conflict, match="update it"):
        retry(plant, "old")


def test_each_retry_is_another_attempt_under_a_new_generation_and_is_audited(plant):
    start_again(plant)
    generation = plant.directive("d1").generation
    for number in (1, 2):
        assert retry(plant, "d1") == [SLOT]
        plant.tick()
        assert attempt(plant, "d1").endswith(f".{number}")
        assert plant.directive("d1").generation == generation + number
    with plant.store.read() as session:
        rows = session.exec(select(models.Audit).where(models.Audit.action == "device.retry")).all()
    assert [(row.actor, row.subject, row.detail) for row in rows] == [
        ("token:ann", "d1", {"slots": [SLOT]})
    ] * 2


def test_a_slot_that_is_asked_to_hold_nothing_has_nothing_to_try(plant):
    with pytest.raises(NotFound, match="'none'"):
        retry(plant, "d1", "none")


def test_the_api_lets_an_operator_alone_ask_for_it(kit):
    with kit.hub.store.write() as session:
        session.add(models.Device(id="cam-1", created=1.0))
    path = f"{API}/devices/cam-1/retry"
    assert kit.http.post(path, json={}, headers=kit.as_("viewer")).status_code == 403
    answer = kit.http.post(path, json={}, headers=kit.as_("operator"))
    assert answer.status_code == 404
    assert "nothing to try again" in answer.json()["detail"]
