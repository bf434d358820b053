"""Commissioning a feed from the command line, over a real broker."""

import json

import pytest
from msgspec import structs

from muster_agent.app.cli import main
from muster_agent.base.feed_settings import ModbusTag
from muster_agent.feeds.assembly import Assembler
from muster_agent.feeds.hints import hint
from muster_agent.feeds.modbus.client import number_in, registers_of
from muster_agent.feeds.samples import Sample
from support.fed import FEATURES, FedSlot, PlantBroker, PlantClient
from support.pictures import drop, png, seen_bundle
from wire_samples import MANIFEST_2

pytestmark = pytest.mark.system

FEED = """
[feeds.press]
slot = "slot"
[feeds.press.sources.uns]
kind = "mqtt"
host = "127.0.0.1"
port = {port}
[feeds.press.sources.uns.tags]
flow = {{ topic = "plant/flow", unit = "m3/h" }}
temperature = {{ topic = "plant/temperature", unit = "°C" }}
"""


@pytest.fixture
def broker(tmp_path):
    with PlantBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def fed(tmp_path, broker):
    with FedSlot(tmp_path, FEED.format(port=broker.port)) as fed:
        yield fed


@pytest.fixture
def plant(broker):
    with PlantClient(broker.port) as plant:
        plant.publish("plant/flow", "1.5", retain=True)
        plant.publish("plant/temperature", "2.5", retain=True)
        yield plant


def feed(fed, command: str, *more: object) -> int:
    return main(["feed", command, "--dir", str(fed.directory), *map(str, more)])


def link_current(fed) -> None:
    """What the agent keeps for other programs."""
    (fed.directory / "current").mkdir()
    (fed.directory / "current" / "slot").symlink_to(fed.bundle)


def test_check_shows_each_feature_and_what_the_model_answers(fed, plant, capsys):
    fed.begin_worker()
    link_current(fed)
    assert feed(fed, "check", "press", "--seconds", 60) == 0
    shown = capsys.readouterr().out
    assert "source uns: well" in shown
    assert "m3/h     good" in shown
    assert "dense 1 answers (good): probabilities" in shown
    plant.publish("plant/flow", "250", retain=True)
    assert feed(fed, "check", "press", "--seconds", 60) == 1
    shown = capsys.readouterr().out
    assert "bad (range)" in shown
    assert "250 is no value of this signal" in shown


def test_check_without_a_model_shows_the_tags_and_with_a_manifest_what_lacks(fed, plant, capsys):
    assert feed(fed, "check", "press", "--seconds", 60) == 0
    assert "no model runs in slot 'slot'" in capsys.readouterr().out
    path = fed.directory / "agent.toml"
    path.write_text(path.read_text().replace('"m3/h"', '"l/min"'))
    assert feed(fed, "check", "press", "--manifest", fed.bundle / "manifest.json") == 1
    assert "takes it in 'm3/h', the tag gives 'l/min'" in capsys.readouterr().out
    assert feed(fed, "check", "pres") == 1
    assert "there is no feed 'pres'; there are press" in capsys.readouterr().err


def test_what_is_recorded_can_be_replayed_as_the_model_would_have_seen_it(fed, plant, capsys):
    file = fed.directory / "shift.jsonl"
    assert feed(fed, "record", "press", file, "--seconds", 1) == 0
    assert "2 samples" in capsys.readouterr().out
    listed = fed.bundle / "manifest.json"
    feed(fed, "replay", "press", file, "--manifest", listed)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "seconds,flow,temperature,quality,reason,signals"
    assert "1.5,2.5,good,," in rows[-1]
    file.write_bytes(file.read_bytes() + b'{"kind": "x", "after": 1, "signals": []}\n')
    assert feed(fed, "replay", "press", file, "--manifest", listed) == 1
    assert f"{file}:3: no line of a recording: Invalid enum value 'x'" in capsys.readouterr().err


def test_list_shows_how_each_feed_stands(fed, plant, capsys):
    assert feed(fed, "list") == 1
    assert "press: does not run" in capsys.readouterr().out
    fed.begin_worker()
    fed.begin_feed()
    fed.notice("accepted")
    status = fed.directory / "feeds" / "press.json"
    from support.waiting import until  # noqa: PLC0415 - beside its only use

    until(
        lambda: json.loads(status.read_bytes()) if status.exists() else {},
        lambda said: any(each["quality"] == "good" for each in said.get("signals", ())),
    )
    assert feed(fed, "list") == 0
    shown = capsys.readouterr().out
    assert "press: slot slot, dense 1" in shown
    assert "flow 1.5 m3/h good" in shown


def test_a_wrong_word_order_is_named_with_what_the_right_one_would_give():
    tag = ModbusTag(register=0, type="float32", word_order="little", unit="m3/h", scale=0.5)
    raw = number_in(registers_of(43.0, "float32", "big"), "float32", "little")
    flow = structs.replace(FEATURES[0], least=1.0)
    made = Assembler(structs.replace(MANIFEST_2, features=(flow,)))
    made.put(Sample("flow", raw * 0.5, 0.0, 0.0))
    (state,) = made.states(0.0)
    assert state.reason == "range"
    assert hint(state, tag, raw * 0.5) == 'with word_order = "big" it would be 21.5'


PICTURES = """
[feeds.press]
slot = "slot"
[feeds.press.sources.cam]
kind = "images"
path = "camera"
signal = "part"
"""


def test_check_shows_a_picture_and_what_the_model_answers_and_leaves_it_where_it_is(
    tmp_path, capsys
):
    (tmp_path / "camera").mkdir()
    drop(tmp_path / "camera", "a.png", png())
    with FedSlot(tmp_path, PICTURES, **seen_bundle()) as fed:
        assert feed(fed, "check", "press", "--seconds", 60) == 0  # without a model
        assert "part" in capsys.readouterr().out
        fed.begin_worker()
        link_current(fed)
        assert feed(fed, "check", "press", "--seconds", 60) == 0
        shown = capsys.readouterr().out
        assert "good" in shown
        assert "dense 1 answers (good): probabilities" in shown
        assert [each.name for each in (tmp_path / "camera").iterdir()] == ["a.png"]
        assert feed(fed, "record", "press", tmp_path / "shift.jsonl", "--seconds", 60) != 0
        assert "pictures aren't recorded" in capsys.readouterr().err
