"""A device that goes by an older directive than it was sent gets it again, now and then."""

import pytest
from sqlmodel import select

from muster_hub.reconcile.behind import GRACE_SECONDS
from muster_hub.storage import models
from support.hub_engine import Plant


@pytest.fixture
def plant(tmp_path, database):
    plant = Plant(tmp_path, "dev-1", "dev-2", url=database)
    plant.publish("1")
    plant.publish("2")
    ask(plant, "1")
    for device in ("dev-1", "dev-2"):
        plant.report(device, "1")
    plant.tick()
    yield plant
    plant.close()


def ask(plant, version):
    """A directive with another number for each."""
    plant.start(version, timeout_seconds=1e6)
    plant.tick()


def sent(plant, device):
    """Envelopes put on the way to a device since the last look."""
    with plant.store.write() as session:
        rows = session.exec(select(models.OutboxMessage)).all()
        found = [row.payload for row in rows if f"/{device}/" in row.topic]
        for row in rows:
            session.delete(row)
    return found


def envelope(plant, device):
    with plant.store.read() as session:
        return session.get_one(models.DirectiveRow, device).envelope


def number(plant, device):
    with plant.store.read() as session:
        return session.get_one(models.DirectiveRow, device).generation


def reports(plant, device, *, older, online=True, epoch=1):
    """The device reports which directive it goes by."""
    generation = number(plant, device) - older
    report = {
        "epoch": epoch,
        "generation": generation,
        "facts": {"agent_version": "1"},
        "slots": {},
    }
    plant.change(device, report=report, reported=plant.now, last_seen=plant.now, online=online)
    plant.tick()


def test_a_device_that_was_set_back_to_an_old_directive_gets_the_newest_again(plant):
    ask(plant, "2")
    sent(plant, "dev-1")
    plant.tick(GRACE_SECONDS + 1)
    reports(plant, "dev-1", older=1)
    reports(plant, "dev-2", older=0)
    assert sent(plant, "dev-1") == [envelope(plant, "dev-1")]
    assert sent(plant, "dev-2") == []


def test_a_device_that_goes_by_a_directive_of_an_older_director_gets_the_newest_again(plant):
    ask(plant, "2")
    sent(plant, "dev-1")
    plant.tick(GRACE_SECONDS + 1)
    reports(plant, "dev-1", older=-5, epoch=0)
    assert sent(plant, "dev-1") == [envelope(plant, "dev-1")]


def test_what_may_still_be_on_its_way_is_not_sent_again(plant):
    ask(plant, "2")
    sent(plant, "dev-1")
    reports(plant, "dev-1", older=1)
    assert sent(plant, "dev-1") == []


def test_a_device_that_never_takes_it_is_sent_it_more_and_more_seldom(plant):
    ask(plant, "2")
    plant.tick(GRACE_SECONDS + 1)
    sent(plant, "dev-1")
    count, until = 0, plant.now + 6 * 3600.0
    while plant.now < until:
        plant.tick(600.0)
        reports(plant, "dev-1", older=1)
        count += len(sent(plant, "dev-1"))
    assert 3 <= count <= 8, "of 36 reports"
    reports(plant, "dev-1", older=0)
    assert sent(plant, "dev-1") == []


def test_a_device_that_is_away_is_sent_nothing(plant):
    ask(plant, "2")
    sent(plant, "dev-1")
    plant.tick(GRACE_SECONDS + 1)
    report = {
        "epoch": 1,
        "generation": number(plant, "dev-1") - 1,
        "facts": {"agent_version": "1"},
        "slots": {},
    }
    plant.change("dev-1", report=report, reported=plant.now, online=False)
    plant.tick()
    assert sent(plant, "dev-1") == []
