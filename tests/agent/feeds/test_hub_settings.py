"""What a hub may change of a feed: what agent.toml opens, by the same checks, all or nothing."""

import msgspec
import pytest

from muster_agent.base.config import ConfigError, load
from muster_agent.base.feed_overlay import overlaid
from muster_agent.feeds.hub_settings import FILE, HubFeedSettings, load_feeds
from muster_protocol.wire import directive
from muster_protocol.wire.directive import Directive

TEXT = """device = "press-7"
[broker]
host = "localhost"
[feeds.press]
slot = "pump"
hub_may_set = OPEN
[feeds.press.sources.plc]
kind = "modbus"
host = "127.0.0.1"
tags = { flow = { register = 1, type = "uint16", unit = "m3/h" } }
[feeds.press.sinks.stop]
kind = "modbus"
host = "127.0.0.1"
writes = { stop = { type = "bit", register = 3, safe = 1 } }
"""


def settings(tmp_path, opened: str = '["sources.plc.host", "sources.plc.tags", "sinks.stop.port"]'):
    (tmp_path / "agent.toml").write_text(TEXT.replace("OPEN", opened))
    return load(tmp_path).settings.feeds


def test_what_is_open_is_set_and_a_whole_number_stays_one(tmp_path):
    local = settings(tmp_path)["press"]
    wanted = {
        "sources.plc.host": "10.0.0.7",
        "sources.plc.tags.flow.register": 40.0,
        "sources.plc.tags.level.register": 41.0,
        "sources.plc.tags.level.type": "int16",
    }
    found, fault = overlaid("press", local, wanted)
    assert fault == ""
    plc = found.sources["plc"]
    assert (plc.host, plc.tags["flow"].register) == ("10.0.0.7", 40)
    assert (plc.tags["level"].register, plc.tags["level"].type) == (41, "int16")
    assert found.sinks == local.sinks


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sources.plc.port", 502, "hub_may_set in agent.toml does not open it"),
        ("sources.plc.hostile", "x", "hub_may_set in agent.toml does not open it"),
        ("sinks.stop.allow_writes", True, "only agent.toml sets it"),
        ("sinks.stop.writes.stop.safe", 0, "hub_may_set in agent.toml does not open it"),
        ("slot", "other", "hub_may_set in agent.toml does not open it"),
        ("sources.plc.tags.flow.type", "float32", "say word_order, big or little"),
        ("sources.plc.tags.flow.register", "x", "sources.plc.tags.flow.register: expected"),
        ("sources.plc.host.deeper", "x", "nothing stands below it"),
        ("sources.plc.tags.flow", "x", "expected `object`"),
    ],
)
def test_what_is_not_open_or_does_not_fit_leaves_the_feed_as_it_is(tmp_path, path, value, words):
    local = settings(tmp_path)["press"]
    found, fault = overlaid("press", local, {"sources.plc.host": "10.0.0.7", path: value})
    assert found is local
    assert words in fault
    assert "sources" in fault or path in fault


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        ('["sinks.stop.allow_writes"]', "allow_writes is set here alone"),
        ('["sinks.stop"]', "is no path below a source or sink"),
        ('["slot"]', "is no path below a source or sink"),
        ('["sources.uns.password_file"]', "password_file is set here alone"),
    ],
)
def test_agent_toml_can_not_open_what_only_the_machines_owner_sets(tmp_path, opened, words):
    with pytest.raises(ConfigError, match=words) as caught:
        settings(tmp_path, opened)
    assert "agent.toml:6: feeds.press.hub_may_set: " in str(caught.value)


def test_what_a_directive_set_is_read_by_the_feed_until_another_sets_otherwise(tmp_path):
    local = settings(tmp_path)
    by_hub = HubFeedSettings(tmp_path, local)
    assert by_hub.adopt({}) == (set(), {})
    assert not (tmp_path / FILE).exists()
    wanted = {"press": {"sources.plc.host": "10.0.0.7"}, "oven": {"sources.plc.host": "x"}}
    assert by_hub.adopt(wanted) == ({"press"}, {"oven": "there is no such feed in agent.toml"})
    assert by_hub.adopt(wanted)[0] == set(), "nothing is new"
    assert load_feeds(tmp_path).settings.feeds["press"].sources["plc"].host == "10.0.0.7"
    changed, faults = by_hub.adopt({"press": {"sources.plc.port": 1.0}})
    assert changed == set()
    assert "does not open it" in faults["press"]
    assert load_feeds(tmp_path).settings.feeds["press"].sources["plc"].host == "10.0.0.7"
    assert by_hub.adopt({}) == ({"press"}, {})
    assert load_feeds(tmp_path).settings.feeds == local


def test_when_the_owner_closes_what_was_open_the_local_settings_count(tmp_path):
    by_hub = HubFeedSettings(tmp_path, settings(tmp_path))
    by_hub.adopt({"press": {"sources.plc.host": "10.0.0.7"}})
    closed = settings(tmp_path, "[]")
    assert load_feeds(tmp_path).settings.feeds == closed
    wanted = {"press": {"sources.plc.host": "10.0.0.7"}}
    changed, faults = HubFeedSettings(tmp_path, closed).adopt(wanted)
    assert (changed, list(faults)) == ({"press"}, ["press"])
    (tmp_path / FILE).write_bytes(b"\xff")
    assert load_feeds(tmp_path).settings.feeds == closed


def test_values_of_each_type_go_through_a_directive():
    values = {"sources.plc.host": "10.0.0.7", "sources.plc.every_seconds": 0.5, "sinks.a.b": True}
    wanted = Directive(
        device="press-7", epoch=1, generation=1, issued=0, expires=1, slots={},
        feed_settings={"press": values},
    )  # fmt: skip
    assert directive.decode(directive.encode(wanted)).feed_settings == {"press": values}
    broken = msgspec.structs.replace(wanted, feed_settings={"press": {"a": "x\ny"}})
    with pytest.raises(Exception, match="not a valid directive"):
        directive.encode(broken)
