"""An operator asks that a device's agent starts anew: its next directive asks it, for an hour."""

import pytest
from msgspec import UNSET
from sqlmodel import select

from muster_hub.errors import Conflict
from muster_hub.fleet import restarting
from muster_hub.storage import models
from muster_protocol.wire import directive
from support.hub_engine import Plant

KNOWS = {"agent_version": "2", "understands": [directive.RESTART]}


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
        return restarting.ask(session, row, by="token:ann", now=plant.now)


def test_a_device_is_asked_by_its_directive_and_twice_within_a_minute_is_once(plant):
    plant.tick()
    assert plant.messages("d1") == []
    until = int(plant.now + restarting.VALID_SECONDS)
    assert ask(plant) == ask(plant) == (1, until)
    plant.tick()
    assert plant.directive("d1").restart == directive.TimedRequest(1, until)
    plant.tick(restarting.AGAIN_SECONDS)
    assert ask(plant)[0] == 2
    plant.tick()
    assert plant.directive("d1").restart.request == 2
    with plant.store.read() as session:
        rows = session.exec(
            select(models.Audit).where(models.Audit.action == "device.restart")
        ).all()
    assert [(row.actor, row.subject, row.detail) for row in rows] == [
        ("token:ann", "d1", {"request": 1}), ("token:ann", "d1", {"request": 2}),
    ]  # fmt: skip


def test_an_agent_that_does_not_know_it_is_not_asked_and_the_error_says_what_to_do(plant):
    with pytest.raises(Conflict, match="systemctl restart muster-agent"):
        ask(plant, "old")
    plant.publish("1")
    plant.change("old", restarts=1, restart_until=plant.now + 60)
    plant.start("1", failures_allowed=5)
    plant.tick()
    assert plant.directive("old").restart is UNSET
