"""Watching a device's feeds: its directive asks, its reports tell, the latest is kept."""

import pytest
from msgspec import UNSET

from muster_hub.errors import Conflict
from muster_hub.fleet import feed_watching
from muster_hub.mqtt.commit import commit
from muster_hub.mqtt.inbound import read
from muster_hub.storage import models
from muster_protocol.wire import directive, messages, topics
from muster_protocol.wire.feed_report import FeedReport, FeedSignal
from muster_protocol.wire.messages import Facts, Report
from support.hub_engine import Plant
from wire_samples import STAMP

KNOWS = {"agent_version": "2", "understands": [directive.FEED_WATCHES]}


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
        return feed_watching.ask(session, row, by="token:ann", now=plant.now)


def report(plant, value=None, **feeds):
    """The device reports; with a value, that of its one signal."""
    if value is not None:
        signal = FeedSignal(feature="flow", signal="flow", value=value, quality="good")
        feeds["press"] = FeedReport(slot="pump", signals=(signal,))
    sent = Report(at=STAMP, facts=Facts(agent_version="2"), feeds=feeds)
    inbound = read(topics.up("d1", "report"), messages.encode(sent), plant.now)
    with plant.store.write() as session:
        commit(session, [inbound], plant.now)


def view(plant):
    with plant.store.read() as session:
        return feed_watching.view(session.get(models.Device, "d1"), plant.now)


def test_a_device_is_asked_by_its_directive_and_not_anew_while_it_tells(plant):
    assert ask(plant) == 1
    plant.tick()
    assert plant.directive("d1").feed_watches == 1
    assert ask(plant) == 1
    plant.tick(feed_watching.AGAIN_SECONDS)
    assert ask(plant) == 2
    plant.tick()
    assert plant.directive("d1").feed_watches == 2
    assert view(plant)["live"]
    plant.tick(feed_watching.WATCH_SECONDS)
    assert not view(plant)["live"]


def test_an_agent_that_does_not_know_it_is_not_asked_and_the_error_says_what_to_do(plant):
    with pytest.raises(Conflict, match="muster-agent feed list"):
        ask(plant, "old")
    plant.publish("1")
    plant.change("old", feed_watches=1)
    plant.start("1", failures_allowed=5)
    plant.tick()
    assert plant.directive("old").feed_watches is UNSET


def test_what_was_told_last_stays_when_a_report_tells_nothing_and_is_no_part_of_the_report(plant):
    report(plant, 2.5)
    received_at = plant.now
    plant.tick(60)
    report(plant)
    found = view(plant)
    assert found["received"] == received_at
    assert found["feeds"]["press"]["signals"][0]["value"] == 2.5
    with plant.store.read() as session:
        row = session.get(models.Device, "d1")
        assert "feeds" not in row.report
        assert row.reported == plant.now


def test_of_each_signal_the_latest_values_are_kept_and_no_more(plant):
    for number in range(feed_watching.TRAIL_VALUES + 3):
        report(plant, float(number))
    trail = view(plant)["feeds"]["press"]["trails"]["flow"]
    assert trail == [float(number + 3) for number in range(feed_watching.TRAIL_VALUES)]
