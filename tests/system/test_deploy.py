"""What we ship for machines: units that are hardened, examples that load, rules that match ours."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from muster_agent.base import config as agent_config
from muster_hub.mqtt import broker_config
from muster_hub.settings import config as hub_config

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
WITH_WORKERS = [unit for unit in UNITS if unit.name != "muster-hub-broker.service"]
"""That one starts Mosquitto and no worker, so it is allowed less."""
EXPOSURE_MAX = 20
"""In tenths, as systemd-analyze counts: 2.0 of 10."""

pytestmark = pytest.mark.system
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"LC_ALL": "C"},
    )  # fmt: skip


@pytest.mark.parametrize("unit", WITH_WORKERS, ids=lambda unit: unit.name)
def test_a_unit_lets_a_worker_isolate_itself(unit):
    """Older lists of ``@system-service`` have none of these, and a worker would go without."""
    allowed = {
        word
        for line in unit.read_text().splitlines()
        if line.startswith("SystemCallFilter=") and "~" not in line
        for word in line.partition("=")[2].split()
    }
    needed = {"create_ruleset", "add_rule", "restrict_self"}
    assert {f"landlock_{name}" for name in needed} | {"seccomp"} <= allowed


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_exposes_little_of_the_machine(unit):
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)
    assert done.returncode == 0, done.stdout[-400:]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_understood_whole(unit, tmp_path):
    text = re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = analyze("verify", "--man=no", copy)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert complaints == []


def test_a_worker_killed_for_its_memory_leaves_the_agent_running():
    text = (DEPLOY / "systemd" / "muster-agent.service").read_text()
    assert "OOMPolicy=continue" in text
    assert "Type=notify" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)


def test_the_example_agent_toml_loads(tmp_path):
    shutil.copy(DEPLOY / "agent.toml", tmp_path)
    loaded = agent_config.load(tmp_path)
    assert loaded.device == "press-7"
    assert str(loaded.socket_path("vision")) == "/run/muster/vision.sock"


def test_the_example_hub_toml_loads(tmp_path):
    shutil.copy(DEPLOY / "hub.toml", tmp_path)
    assert hub_config.load(tmp_path).url == "https://hub.example:8443"


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_access_rules_for_an_external_broker_are_those_of_our_own():
    assert rules((DEPLOY / "mosquitto" / "muster.acl").read_text()) == rules(
        broker_config.acl_text()
    )


def test_an_external_broker_is_bounded_and_identified_like_our_own(tmp_path):
    ours = broker_config.BrokerConfig(
        directory=tmp_path, host="0.0.0.0", port=8883,
        ca=tmp_path, certificate=tmp_path, key=tmp_path,
    )  # fmt: skip
    shown = set(rules((DEPLOY / "mosquitto" / "mosquitto.conf").read_text()))
    about_place = ("acl_file", "password_file", "persistence_location", "listener", "cafile")
    about_place += ("certfile", "keyfile", "log_", "connection_messages", "user ")
    wanted = {
        line for line in rules(broker_config.config_text(ours)) if not line.startswith(about_place)
    }
    assert wanted - shown == set()


@pytest.fixture(scope="module")
def deb():
    """The script that builds the Debian packages."""
    spec = importlib.util.spec_from_file_location("deb_build", DEPLOY / "deb" / "build.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def test_a_debian_package_has_each_program_that_its_service_starts(deb):
    for package in deb.PACKAGES.values():
        assert set(package.commands.values()) <= set(deb.project()["scripts"])
        unit = deb.placed(package.unit.read_text(), package)
        (start,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
        assert start.removeprefix("/usr/bin/") in package.commands


def test_a_debian_package_that_lacks_what_its_service_starts_is_not_built(deb):
    with pytest.raises(SystemExit, match="muster-hub has no muster-next, which it starts"):
        deb.placed("ExecStart=/opt/muster/bin/muster-next run", deb.HUB)


def install_device(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEPLOY / "install-device", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--from is missing"),
        (["--from"], "--from needs a value"),
        (["--from", "x.whl"], "--root is missing"),
        (["--from", "x.whl", "--root", "/no/such"], "/no/such can't be read"),
        (["--from", "x.whl", "--root", "/etc/hostname", "--hub", "https://h"], "--token"),
        (["--frm", "x"], "unknown option --frm"),
    ],
)
def test_the_install_script_stops_before_it_changes_anything(words, named):
    done = install_device(*words)
    assert done.returncode == 1
    assert named in done.stderr


def test_the_install_script_explains_itself():
    done = install_device("--help")
    assert done.returncode == 0
    assert "--root FILE" in done.stdout
    assert "set -eu" not in done.stdout


def test_the_install_script_finds_the_line_it_changes_in_a_written_agent_toml(tmp_path):
    """It moves the sockets to where the unit's group can reach them."""
    written = agent_config.write(
        tmp_path, {"device": "press-7", "broker.host": "hub.example", "broker.port": 8883}
    )
    script = (DEPLOY / "install-device").read_text()
    (edit,) = re.findall(r"^\s*sed -i ('[^']+') \"\$state/agent.toml\"$", script, re.MULTILINE)
    done = subprocess.run(["sed", "-i", edit.strip("'"), written], check=False, timeout=20)
    assert done.returncode == 0
    assert str(agent_config.load(tmp_path).run_dir) == "/run/muster"
