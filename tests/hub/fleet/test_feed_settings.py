"""The same feed on many presses: values by selector, addresses from labels, by the directive."""

import pytest
from msgspec import UNSET

from muster_hub.errors import Invalid, NotFound
from muster_hub.fleet import feed_settings
from muster_protocol.wire import directive
from support.hub_engine import Plant

PRESSES = [f"press-{number}" for number in range(40)]
KNOWS = {"facts": {"understands": [directive.FEED_SETTINGS]}}
ADDRESS = {"sources.plc.host": "{label.plc_address}", "sources.plc.port": 1502.0}


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path, *PRESSES, "bare", "old")
    for number, name in enumerate(PRESSES):
        labels = {"line": str(number % 2), "plc_address": f"10.0.0.{number}"}
        plant.change(name, labels=labels, report=KNOWS)
    plant.change("bare", labels={"line": "0"}, report=KNOWS)
    plant.change("old", labels={"line": "0", "plc_address": "10.0.1.1"}, report={"facts": {}})
    yield plant
    plant.close()


def put(plant, name, selector="", settings=ADDRESS):
    with plant.store.write() as session:
        row = feed_settings.put(
            session, name=name, selector=selector, feed="press", settings=settings,
            by="token:ann", now=plant.now,
        )  # fmt: skip
        return feed_settings.view(session, row)


def settle(plant):
    for _ in range(3):
        plant.tick()


def test_each_press_of_a_line_is_told_its_own_address_and_nobody_else_is_told_anything(plant):
    found = put(plant, "addresses", "line=0")
    assert found["devices"] == 22
    assert found["lacking"] == {"bare": "plc_address"}
    settle(plant)
    for number in range(0, 40, 2):
        said = plant.directive(PRESSES[number]).feed_settings
        assert said == {
            "press": {"sources.plc.host": f"10.0.0.{number}", "sources.plc.port": 1502.0}
        }
    assert all(plant.messages(name) == [] for name in (PRESSES[1], "bare", "old"))


def test_a_label_that_changes_and_a_setting_that_goes_change_what_is_told(plant):
    put(plant, "addresses", "line=0")
    put(plant, "later", "line=0", {"sources.plc.port": 502.0})
    settle(plant)
    assert plant.directive("press-0").feed_settings["press"]["sources.plc.port"] == 502.0
    plant.change("press-0", labels={"line": "0", "plc_address": "10.9.9.9"})
    settle(plant)
    assert plant.directive("press-0").feed_settings["press"]["sources.plc.host"] == "10.9.9.9"
    with plant.store.write() as session:
        for name in ("addresses", "later"):
            feed_settings.remove(session, name, by="token:ann", now=plant.now)
        with pytest.raises(NotFound):
            feed_settings.remove(session, "later", by="token:ann", now=plant.now)
    settle(plant)
    assert plant.directive("press-0").feed_settings is UNSET


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "length >= 1"),
        ({"sources.plc.host": "{plc_address}"}, "labels are written {label.plc_address}"),
        ({"sources.plc.host": ["x"]}, "settings: "),
        ({f"sources.plc.tags.t{number}": "x" * 200 for number in range(60)}, "bytes in all"),
    ],
)
def test_what_no_device_could_take_is_refused_at_once(plant, settings, words):
    with pytest.raises(Invalid) as caught:
        put(plant, "wrong", settings=settings)
    assert words in str(caught.value)
