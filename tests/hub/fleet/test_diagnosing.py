"""An operator asks what is wrong on a device: its next directive asks it, its events answer."""

import pytest
from msgspec import UNSET
from sqlmodel import select

from muster_hub.errors import Conflict
from muster_hub.fleet import diagnosing
from muster_hub.storage import models
from muster_hub.storage.telemetry import EventRow
from muster_protocol.wire import directive
from support.hub_engine import Plant

KNOWS = {"agent_version": "2", "understands": [directive.DIAGNOSES]}


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path, "d1", "old")
    for device, facts in (("d1", KNOWS), ("old", {"agent_version": "1"})):
        plant.change(device, report={"facts": facts})
    yield plant
    plant.close()


def ask(plant, device):
    with plant.store.write() as session:
        row = session.get(models.Device, device)
        return diagnosing.ask(session, row, by="token:ann", now=plant.now)


def answer(plant, *lines, request):
    with plant.store.write() as session:
        for line in lines:
            data = {"values": {"request": float(request)}}
            row = EventRow(device="d1", kind="diagnosis", received=plant.now, detail=line)
            row.data = data
            session.add(row)


def read(plant):
    with plant.store.read() as session:
        return diagnosing.answer(session, session.get(models.Device, "d1"))


def test_a_device_is_asked_by_its_directive_even_when_nothing_runs_there(plant):
    plant.tick()
    assert plant.messages("d1") == []
    assert [ask(plant, "d1"), ask(plant, "d1")] == [1, 2]
    plant.tick()
    assert plant.directive("d1").diagnoses == 2
    with plant.store.read() as session:
        rows = session.exec(
            select(models.Audit).where(models.Audit.action == "device.diagnose")
        ).all()
    assert [(row.actor, row.subject, row.detail) for row in rows] == [
        ("token:ann", "d1", {"request": 1}), ("token:ann", "d1", {"request": 2}),
    ]  # fmt: skip


def test_an_agent_that_knows_no_diagnosis_is_asked_none_and_the_error_says_what_to_do(plant):
    with pytest.raises(Conflict, match=r"muster-agent doctor"):
        ask(plant, "old")
    plant.publish("1")
    plant.change("old", diagnoses=1)
    plant.start("1", failures_allowed=5)
    plant.tick()
    assert plant.directive("old").diagnoses is UNSET


def test_the_latest_answer_is_shown_line_by_line_and_an_older_one_is_not(plant):
    ask(plant, "d1")
    assert read(plant) == {
        "device": "d1", "asked": 1, "answered": 0, "received": None, "lines": [],
    }  # fmt: skip
    answer(plant, "fail broker: no answer", request=1)
    ask(plant, "d1")
    answer(plant, "ok disk: 9 MiB free", "log WARNING agent: lost", "whatever", request=2)
    found = read(plant)
    assert (found["asked"], found["answered"]) == (2, 2)
    assert found["lines"] == [
        {"grade": "ok", "check": "disk", "line": "9 MiB free"},
        {"grade": "log", "check": "WARNING agent", "line": "lost"},
        {"grade": "log", "check": "", "line": "whatever"},
    ]
