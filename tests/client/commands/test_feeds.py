"""`muster feed` and `muster device feeds` against a real hub."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import OperatorError
from muster_client.packing.fed import fields_of
from muster_client.resources import fleet_file
from muster_hub.fleet import feed_watching
from muster_hub.storage.models import Device
from support.console_kit import add_devices, report
from support.hub_kit import Kit, open_kit

PAGE = (Path(__file__).parents[3] / "docs" / "factory.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for language, text in BLOCKS
    for line in text.splitlines()
    if not language and line.startswith("muster ")
]
ADDRESS = "sources.plc.host={label.plc_address}"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = open_kit(tmp_path)
    said = report("1", now=made.clock())
    said["facts"]["understands"] = ["feed_watches"]
    add_devices(made, ["press-7"], report=said, labels={"line": "2", "plc_address": "10.0.0.7"})
    add_devices(made, ["press-8"], labels={"line": "2"})
    yield made
    made.close()


def muster(kit: Kit, *arguments: str):
    token = kit.as_("operator")["Authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(app, ["--hub", str(kit.http.base_url), "--token", token, *arguments])


def test_a_setting_is_set_listed_with_who_lacks_a_label_and_removed(kit):
    made = muster(
        kit, "feed", "set", "addresses", "press", ADDRESS, "sources.plc.port=1502",
        "--selector", "line=2",
    )  # fmt: skip
    assert "set on 2 devices" in made.stdout, made.output
    assert "press-8 has no label plc_address" in made.stdout
    (found,) = json.loads(muster(kit, "feed", "list", "--json").stdout)
    assert found["settings"] == {
        "sources.plc.host": "{label.plc_address}",
        "sources.plc.port": 1502,
    }
    assert "addresses" in muster(kit, "feed", "list").stdout
    assert muster(kit, "feed", "remove", "addresses").exit_code == 0
    assert "Nothing is set." in muster(kit, "feed", "list").stdout


def test_what_is_no_path_and_value_is_refused_with_an_example(kit):
    refused = muster(kit, "feed", "set", "addresses", "press", "sources.plc.host")
    assert isinstance(refused.exception, OperatorError)
    assert "as sources.plc.host=10.0.0.5" in str(refused.exception)


def test_the_feeds_of_a_device_are_shown_with_value_unit_quality_and_age(kit):
    asked = muster(kit, "device", "feeds", "press-7", "--wait-seconds", "0")
    assert asked.exit_code == 1
    assert "has told of no feed" in asked.stdout
    signal = {"feature": "flow", "signal": "flow", "value": 2.5, "unit": "m3/h",
              "quality": "bad", "reason": "stale", "age_seconds": 9.0}  # fmt: skip
    feeds = {"press": {"slot": "vision", "signals": [signal], "sources": {"plc": {}}}}
    with kit.hub.store.write() as session:
        row = session.get_one(Device, "press-7")
        row.feeds = feed_watching.kept(None, feeds, kit.clock() + 1)
        session.add(row)
    shown = muster(kit, "device", "feeds", "press-7")
    assert shown.exit_code == 0, shown.output
    for words in ("press", "flow", "2.5", "m3/h", "bad: stale", "9.0 s", "source plc: works"):
        assert words in shown.stdout
    assert json.loads(muster(kit, "device", "feeds", "press-7", "--last", "--json").stdout)["live"]


def test_each_command_of_the_factory_page_works_as_it_stands_there(kit):
    assert len(COMMANDS) == 4
    for line in COMMANDS:
        ended = muster(kit, *shlex.split(line)[1:])
        assert ended.exit_code == 0, (line, ended.output, ended.exception)


def test_each_fleet_file_and_each_models_features_on_the_factory_page_are_taken(tmp_path):
    fleets = [text for language, text in BLOCKS if language == "yaml"]
    assert [len(fleet_file.parse(text, "factory.md").feeds) for text in fleets] == [2]
    needed = [text for language, text in BLOCKS if language == "json" and '"quality": {' in text]
    assert len(needed) == 2
    for text in needed:
        file = tmp_path / "features.json"
        file.write_text(f"{{{text}}}")
        assert fields_of(str(file))["format"] == 2
