"""agent.toml: every key documented, every mistake named with its file and key."""

import tomllib

import pytest

from muster_agent.base.config import FILE, SETTINGS, SLOT_KEYS, ConfigError, load, render, write

GIVEN = {"device": "cam-1", "broker.host": "hub.test", "broker.port": 8884}


def given(directory, text):
    (directory / FILE).write_text(f'device = "cam-1"\n{text}\n[broker]\nhost = "h"\n')


def test_a_written_file_is_read_back_with_every_default(tmp_path):
    write(tmp_path, GIVEN)
    config = load(tmp_path)
    assert (config.device, config.text("broker.host"), config.count("broker.port")) == (
        "cam-1", "hub.test", 8884,
    )  # fmt: skip
    for setting in SETTINGS:
        if setting.key not in GIVEN:
            assert config.values[setting.key] == setting.default


def test_every_setting_has_a_sentence_and_stands_in_the_written_file():
    text = render(GIVEN)
    for setting in SETTINGS:
        assert setting.meaning.endswith(".")
        assert f"# {setting.meaning}" in text
        assert setting.key.rpartition(".")[2] in text
    for key, meaning in SLOT_KEYS.items():
        assert key in text
        assert meaning in text


def test_every_default_is_within_its_own_bounds_when_uncommented(tmp_path):
    lines = render(GIVEN).splitlines()
    opened = [line.removeprefix("# ") if " = " in line else line for line in lines]
    (tmp_path / FILE).write_text("\n".join(opened).replace("# [slots.<name>]", "[slots.main]"))
    config = load(tmp_path)
    assert config.tcp_ports == {"main": 8080}


def test_quotes_and_backslashes_survive_writing():
    assert tomllib.loads(render(GIVEN | {"run_dir": 'a"b\\c'}))["run_dir"] == 'a"b\\c'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runn_dir = 1", "unknown key 'runn_dir'"),
        ("run_dir = 1", "run_dir must be a text"),
        ("[limits]\nfetch_window = 99", "limits.fetch_window = 99 is outside 1 to 16"),
        ("[limits]\nfetch_window = true", "limits.fetch_window must be a whole number"),
        ('[timers]\nreport_seconds = "x"', "timers.report_seconds must be a number"),
        ('[runtimes]\nallow = "onnx"', "runtimes.allow must be a list of texts"),
        ("[slots.Main]\ntcp_port = 80", "slots.Main"),
        ("[slots.main]\ntcp_port = 0", "tcp_port must be a port from 1 to 65535"),
        ("[slots.main]\nport = 80", "takes only tcp_port"),
        ('[slots.main]\ninterlock = "here"', "interlock must be an absolute path"),
        ('time_zone = "Mars/Olympus"', "time_zone 'Mars/Olympus' is not known"),
        ('[limits]\nfetch_hours = ["25:00-1"]', "fetch_hours must be times such as"),
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
    with pytest.raises(ConfigError, match="device id 'no spaces'"):
        load(tmp_path)


def test_a_socket_path_the_kernel_cannot_hold_is_refused_with_the_cure(tmp_path):
    given(tmp_path, f'run_dir = "{"d" * 120}"')
    with pytest.raises(ConfigError, match="set run_dir in"):
        load(tmp_path).socket_path("main")
    given(tmp_path, 'run_dir = "/run/muster"')
    assert str(load(tmp_path).socket_path("main")) == "/run/muster/main.sock"
