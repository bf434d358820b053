"""What an agent can't read is never sent to it, and the operator is told what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from muster_agent.app.facts import UNDERSTANDS
from muster_hub.rollouts.rehearsal import rehearse
from muster_hub.storage import models
from muster_protocol.wire import manifest
from support.hub_engine import SLOT, Plant
from wire_samples import MANIFEST_2

NEWER = {"format": 2, "inputs": MANIFEST_2.inputs, "outputs": MANIFEST_2.outputs,
         "state": MANIFEST_2.state, "classifier": None, "fallbacks": ()}  # fmt: skip
READS = {"agent_version": "0.2.0", "understands": ["attempt", manifest.UNDERSTANDS]}
OLD = {"agent_version": "0.1.0"}
COUNTS = {**READS, "understands": [*UNDERSTANDS]}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A device that reads format 2 and one that doesn't; both hold version 1."""
    plant = Plant(tmp_path, "new", "old")
    plant.publish("1")
    plant.publish("2", **NEWER)
    say(plant)
    plant.start("1")
    plant.tick()
    for device in ("new", "old"):
        plant.report(device, "1")
    say(plant)
    plant.tick()
    yield plant
    plant.close()


def say(plant: Plant, **facts: dict) -> None:
    for device, said in {"new": READS, "old": OLD, **facts}.items():
        with plant.store.read() as session:
            report = session.get(models.Device, device).report or {}
        plant.change(device, report=report | {"facts": said})


def detail(plant: Plant, number: int, device: str) -> str:
    with plant.store.read() as session:
        chosen = models.RolloutDevice
        query = select(chosen.detail).where(chosen.rollout == number, chosen.device == device)
        return session.exec(query).one()


def test_an_agent_that_can_not_read_the_manifest_keeps_what_it_has_and_counts_as_failed(plant):
    number = plant.start("2", failures_allowed=1)
    for _ in range(3):
        plant.tick()
    assert plant.versions() == {"new": "2", "old": "1"}
    assert plant.states(number)["old"] == "failed"
    assert "(0.1.0) reads no manifest of format 2: update the agent" in detail(plant, number, "old")
    asked = {each.slots[SLOT].champion.version for each in plant.messages("old") if each}
    assert asked == {"1"}


def test_a_rehearsal_names_the_devices_whose_agents_want_updating_first(plant):
    asked = {
        "model": "digits", "slot": SLOT, "selector": "", "min_soak_seconds": 0, "canary": 0,
    }  # fmt: skip
    warned = rehearse(plant.store, plant.blobs, {**asked, "version": "2"}, by="ann", now=plant.now)
    (words,) = (each for each in warned["warnings"] if "format 2" in each)
    assert words.startswith("1 of 2 devices count as failed")
    assert words.endswith("update them first (old)")
    usual = rehearse(plant.store, plant.blobs, {**asked, "version": "1"}, by="ann", now=plant.now)
    assert not any("format" in each for each in usual["warnings"])


def test_an_assignment_that_an_agent_can_not_read_leaves_it_what_it_has_until_it_can(plant):
    with plant.store.write() as session:
        for row in session.exec(select(models.Assignment)):
            row.version = "2"
            session.add(row)
    plant.tick()
    assert plant.versions() == {"new": "2", "old": "1"}
    say(plant, old=READS)
    plant.tick()
    assert plant.versions() == {"new": "2", "old": "2"}


def test_an_agent_that_never_held_a_version_is_sent_none_that_it_can_not_read(tmp_path):
    plant = Plant(tmp_path, "old")
    plant.publish("2", **NEWER)
    plant.change("old", report={"facts": OLD})
    plant.start("2", failures_allowed=1)
    for _ in range(2):
        plant.tick()
    assert plant.versions() == {}
    plant.close()


def test_a_baseline_in_time_is_given_to_agents_that_count_against_it_and_to_no_other(plant):
    plant.publish("3", baseline_format=2)
    asked = {
        "model": "digits", "slot": SLOT, "selector": "", "min_soak_seconds": 0, "canary": 0,
    }  # fmt: skip
    say(plant, new=COUNTS, old=READS)
    warned = rehearse(plant.store, plant.blobs, {**asked, "version": "3"}, by="ann", now=plant.now)[
        "warnings"
    ]
    assert any("read no baseline of format 2: update them first (old)" in words for words in warned)
    number = plant.start("3", failures_allowed=1)
    for _ in range(3):
        plant.tick()
    assert plant.versions() == {"new": "3", "old": "1"}
    assert plant.states(number)["old"] == "failed"
    assert "(0.2.0) reads no baseline of format 2: update the agent" in detail(plant, number, "old")


def test_a_version_checked_before_formats_were_told_is_given_to_all(plant):
    plant.publish("3")
    with plant.store.write() as session:
        row = session.get(models.Version, ("digits", "3"))
        row.check = {"ok": True, "builds": []}
        session.add(row)
    plant.start("3")
    plant.tick()
    assert plant.versions() == {"new": "3", "old": "3"}
