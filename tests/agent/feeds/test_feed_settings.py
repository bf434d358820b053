"""What stands under ``[feeds]`` is checked with its line, before anything connects."""

from pathlib import Path

import pytest

from muster_agent.base.config import ConfigError, load
from muster_agent.base.toml_lines import line_of

FILE = """device = "press-7"
[broker]
host = "hub"
[feeds.press]
slot = "pump"
[feeds.press.sources.plc]
kind = "modbus"
host = "10.0.0.5"
[feeds.press.sources.plc.tags]
flow = { register = 100, unit = "m3/h" }
"oil temp" = { register = 102, type = "float32", word_order = "big" }
[feeds.press.sources.uns.tags.speed]
topic = "plant/speed"
path = "value"
[feeds.press.sources.uns]
kind = "mqtt"
host = "broker"
[feeds.press.sinks.line]
kind = "modbus"
host = "10.0.0.5"
heartbeat_register = 3
[feeds.press.sinks.line.writes]
risk = { register = 0, type = "float32", word_order = "big", safe = -1.0 }
[feeds.press.sinks.mes]
kind = "mqtt"
host = "broker"
topic = "answers/{device}/{feed}"
"""


def refusal(tmp_path: Path, before: str, after: str) -> str:
    assert before in FILE
    (tmp_path / "agent.toml").write_text(FILE.replace(before, after))
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    return str(raised.value).removeprefix(str(tmp_path / "agent.toml"))


def test_a_whole_feed_is_read(tmp_path):
    (tmp_path / "agent.toml").write_text(FILE)
    feed = load(tmp_path).settings.feeds["press"]
    assert set(feed.sources) == {"plc", "uns"}
    assert set(feed.sinks) == {"line", "mes"}


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ('kind = "modbus"\nhost = "10.0.0.5"\n[feeds.press.sources.plc.tags]',
         'kind = "profinet"\nhost = "10.0.0.5"\n[feeds.press.sources.plc.tags]',
         7, "invalid value 'profinet'; there are mqtt, modbus, opcua, csv, sparkplug"),
        ('slot = "pump"', 'slot = "pu mp"', 5, "pu mp"),
        ('slot = "pump"', 'slat = "pump"', 5, "there is no key 'slat' here"),
        ("register = 100", 'register = "100"', 10, "expected `int`"),
        ("register = 100", "register = 70000", 10, "<= 65535"),
        (', word_order = "big" }\n[feeds.press.sources', " }\n[feeds.press.sources",
         11, "takes 2 registers: say word_order"),
        ("register = 102,", 'register = 102, table = "coil",', 11, "of type bit"),
        ('path = "value"', 'path = "value[x]"', 14, "no path such as"),
        ('topic = "plant/speed"', 'topic = "plant/+/speed"', 13, "without + and #"),
        ('topic = "plant/speed"', 'topik = "plant/speed"', 13, "there is no key 'topik'"),
        ('topic = "plant/speed"', "", 12, "topic is missing"),
        ("[feeds.press.sources.uns.tags.speed]", "[feeds.press.sources.uns.tags.flow]", 12,
         "already comes from source 'plc'"),
        ("heartbeat_register = 3", "heartbeat_register = 1", 23, "also written by the heartbeat"),
        (", safe = -1.0", "", 23, "safe is missing"),
        ("{feed}", "{fed}", 27, "{fed} is not known"),
        ("register = 100", "register = 100, scale = 0.0", 10, "scale 0"),
        ('host = "10.0.0.5"\n[feeds.press.sources.plc.tags]', "[feeds.press.sources.plc.tags]",
         6, "name host, for Modbus TCP, or serial_port"),
        ("heartbeat_register = 3", 'heartbeat_register = 3\nserial_port = "/dev/ttyS0"',
         20, "name host, for Modbus TCP, or serial_port"),
        ("register = 100", "register = 100, least = 5, most = 1", 10, "least 5 is above most 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path, before, after, line, words):
    said = refusal(tmp_path, before, after)
    assert said.startswith(f":{line}: feeds.press")
    assert words in said


def test_parts_on_one_serial_line_have_its_settings_in_common(tmp_path):
    text = FILE.replace('host = "10.0.0.5"', 'serial_port = "/dev/ttyS0"')
    (tmp_path / "agent.toml").write_text(text)
    assert load(tmp_path).settings.feeds["press"].sources["plc"].parity == "even"
    line = 'serial_port = "/dev/ttyS0"\nheartbeat'
    (tmp_path / "agent.toml").write_text(text.replace(line, f"baudrate = 9600\n{line}"))
    with pytest.raises(ConfigError, match=r":21: .*plc has the same line with another baudrate"):
        load(tmp_path)


def test_lines_are_found_for_quoted_names_and_for_whatever_lies_nearest():
    text = '[a."b c"]\nx = 1\n[a.d]\n"e.f" = { g = 1 }\n'
    assert line_of(text, ("a", "b c", "x")) == 2
    assert line_of(text, ("a", "d", "e.f", "g")) == 4
    assert line_of(text, ("a", "b c", "lacks")) == 1
    assert line_of(text, ("z",)) is None
