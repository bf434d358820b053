"""agent.toml: every key documented, every mistake named with its file and key."""

import tomllib
from operator import attrgetter

import pytest

from muster_agent.base.config import FILE, ConfigError, load, render, write
from muster_agent.base.settings import SETTINGS, SLOT_SETTINGS

GIVEN = {"device": "cam-1", "broker.host": "hub.test", "broker.port": 8884}


def given(directory, text):
    (directory / FILE).write_text(f'device = "cam-1"\n{text}\n[broker]\nhost = "h"\n')


def test_a_written_file_is_read_back_with_every_default(tmp_path):
    write(tmp_path, GIVEN)
    config = load(tmp_path)
    broker = config.settings.broker
    assert (config.device, broker.host, broker.port) == ("cam-1", "hub.test", 8884)
    for setting in SETTINGS:
        if setting.key not in GIVEN:
            assert attrgetter(setting.key)(config.settings) == setting.default


def test_every_setting_has_a_sentence_and_stands_in_the_written_file():
    text = render(GIVEN)
    for setting in SETTINGS:
        assert setting.meaning.endswith(".")
        assert f"# {setting.meaning}" in text
        assert setting.key.rpartition(".")[2] in text
    for setting in SLOT_SETTINGS:
        assert setting.key in text
        assert setting.meaning in text


def test_every_default_is_within_its_own_bounds_when_uncommented(tmp_path):
    lines = render(GIVEN).splitlines()
    opened = [line.removeprefix("# ") if " = " in line else line for line in lines]
    (tmp_path / FILE).write_text("\n".join(opened).replace("# [slots.<name>]", "[slots.main]"))
    config = load(tmp_path)
    assert config.tcp_port("main") == 8080
    assert config.tcp_port("other") is None
    assert config.interlocks == {"main": "/run/machine/may_swap"}


def test_quotes_and_backslashes_survive_writing():
    assert tomllib.loads(render(GIVEN | {"run_dir": 'a"b\\c'}))["run_dir"] == 'a"b\\c'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runn_dir = 1", ":2: unknown key 'runn_dir'"),
        ("run_dir = 1", ":2: run_dir = 1: expected `str`, got `int`. Directory of the slots'"),
        (
            "[limits]\nfetch_window = 99",
            ":3: limits.fetch_window = 99: expected `int` <= 16. Chunks",
        ),
        ("[limits]\nfetch_window = true", ":3: limits.fetch_window = True: expected `int`"),
        ("[limits]\nwindow = 1", ":3: unknown key 'limits.window'; known: device"),
        ('[timers]\nreport_seconds = "x"', ":3: timers.report_seconds = 'x': expected `float`"),
        ('[runtimes]\nallow = "onnx"', ":3: runtimes.allow = 'onnx': expected `array`"),
        ("[runtimes]\nallow = [1]", ":3: runtimes.allow = [1]: expected `str`"),
        ("runtimes = 1", ":2: runtimes = 1: expected `object`"),
        ("[slots.Main]\ntcp_port = 80", ":2: slot"),
        (
            "[slots.a]\n[slots.main]\ntcp_port = 0",
            ":4: slots.main.tcp_port = 0: expected `int` >= 1",
        ),
        (
            "[slots.main]\nport = 80",
            ":3: unknown key 'slots.main.port'; known: tcp_port, interlock",
        ),
        ("slots = 1", ":2: slots = 1: expected `object`"),
        ('[slots.main]\ninterlock = "here"', ":3: slots.main.interlock = 'here': expected `str` m"),
        (
            'isolation = "maybe"',
            ":2: isolation = 'maybe': invalid enum value 'maybe'. required: no",
        ),
        ('time_zone = "Mars/Olympus"', ":2: time_zone 'Mars/Olympus' is not known"),
        ('[limits]\nfetch_hours = ["25:00-1"]', ":3: limits.fetch_hours must be times such as"),
        ("x =", "agent.toml"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path, text, says):
    given(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    assert str(tmp_path / FILE) in str(error.value)
    assert says in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="enrol this device first"):
        load(tmp_path)
    (tmp_path / FILE).write_text('device = "cam-1"')
    with pytest.raises(ConfigError, match=r"broker\.host is missing"):
        load(tmp_path)
    (tmp_path / FILE).write_text('device = "no spaces"\n[broker]\nhost = "h"')
    with pytest.raises(ConfigError, match=r":1: device id 'no spaces'"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"limits\.fetch_window = 0: expected `int` >= 1"):
        write(tmp_path, GIVEN | {"limits.fetch_window": 0})


def test_a_socket_path_the_kernel_cannot_hold_is_refused_with_the_cure(tmp_path):
    given(tmp_path, f'run_dir = "{"d" * 120}"')
    with pytest.raises(ConfigError, match="set run_dir in"):
        load(tmp_path).socket_path("main")
    given(tmp_path, 'run_dir = "/run/muster"')
    assert str(load(tmp_path).socket_path("main")) == "/run/muster/main.sock"
