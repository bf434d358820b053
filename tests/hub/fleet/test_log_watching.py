"""Somebody watches a device's log: its directive asks, its events tell, they are kept for a day."""

import pytest
from msgspec import UNSET

from muster_hub.errors import Conflict
from muster_hub.fleet import log_watching
from muster_hub.storage import models
from muster_hub.storage.telemetry import EventRow
from muster_protocol.wire import directive
from support.hub_engine import Plant

KNOWS = {"agent_version": "2", "understands": [directive.LOG_WATCH]}


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path, "d1", "old")
    for device, facts in (("d1", KNOWS), ("old", {"agent_version": "1"})):
        plant.change(device, report={"facts": facts})
    yield plant
    plant.close()


def ask(plant, device="d1"):
    with plant.store.write() as session:
        row = session.get(models.Device, device)
        return log_watching.ask(session, row, by="token:ann", now=plant.now)


def answer(plant, *lines):
    with plant.store.write() as session:
        for line in lines:
            row = EventRow(device="d1", kind="log", received=plant.now, detail=line)
            row.data = {"happened": plant.now - 1}
            session.add(row)


def read(plant, after=0, limit=100):
    with plant.store.read() as session:
        return log_watching.lines(session, "d1", after, limit)


def test_a_device_is_asked_by_its_directive_and_not_anew_while_it_sends(plant):
    assert ask(plant) == ask(plant) == 1
    until = int(plant.now + log_watching.WATCH_SECONDS)
    plant.tick()
    assert plant.directive("d1").log_watch == directive.TimedRequest(1, until)
    plant.tick(log_watching.AGAIN_SECONDS)
    assert ask(plant) == 2
    plant.tick()
    assert plant.directive("d1").log_watch.request == 2


def test_an_agent_that_does_not_know_it_is_not_asked_and_the_error_says_what_to_do(plant):
    with pytest.raises(Conflict, match="journalctl -u muster-agent"):
        ask(plant, "old")
    plant.publish("1")
    plant.change("old", log_watches=1, log_watched=plant.now)
    plant.start("1", failures_allowed=5)
    plant.tick()
    assert plant.directive("old").log_watch is UNSET


def test_lines_are_read_in_order_from_where_one_stopped_and_go_after_a_day(plant):
    answer(plant, "INFO agent: serving", "WARNING agent.link: lost: no route", "whatever")
    found = read(plant)
    assert [(each["level"], each["logger"], each["line"]) for each in found] == [
        ("INFO", "agent", "serving"), ("WARNING", "agent.link", "lost: no route"),
        ("", "", "whatever"),
    ]  # fmt: skip
    assert found[0]["at"] == plant.now - 1
    assert read(plant, after=found[1]["number"]) == found[2:]
    assert read(plant, limit=1) == found[2:]
    plant.tick(log_watching.KEPT_SECONDS + 1)
    answer(plant, "INFO agent: newer")
    ask(plant)
    assert [each["line"] for each in read(plant)] == ["newer"]
