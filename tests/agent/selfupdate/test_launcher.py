"""The launcher as a service starts it, again and again, with agents that do what bad ones do."""

import subprocess
import sys
from pathlib import Path

import pytest

from muster_agent.selfupdate import launcher, record
from muster_agent.selfupdate.record import STARTS_MAX, AgentTrial, Record, Side


def agent(directory: Path, side: Side, script: str) -> None:
    """A side whose agent is a shell script."""
    python = record.side_of(directory, side) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def start(
    directory: Path, *options: str, command: str = "run"
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "muster_agent.selfupdate.launcher", *options,
         command, "--dir", str(directory)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """``a`` is in place; ``b`` is on trial."""
    agent(tmp_path, "a", 'echo "a: $*"')
    before = Record("a", "1.0", 1)
    record.change(tmp_path, lambda _: record.put_on_trial(before, AgentTrial("b", "2.0", 2)))
    return tmp_path


def test_an_agent_that_crashes_at_its_start_is_left_for_the_one_before_it(device):
    agent(device, "b", "exit 3")
    for _ in range(STARTS_MAX - 1):
        record.change(device, lambda now: record.begin(now)[0])
    assert start(device).returncode == 3
    done = start(device)
    assert done.stdout.endswith(f"run --dir {device}\n")
    assert done.stdout.startswith("a: ")
    assert record.load(device).taken_back.version == "2.0"


def test_an_agent_that_is_never_healthy_is_stopped_in_time_and_left(device):
    agent(device, "b", "exec sleep 60")
    assert start(device, "--trial-seconds", "0.3").returncode == -15
    assert start(device).stdout.startswith("a: ")
    assert record.load(device).taken_back.why == "not healthy within 0.3 s"


def test_a_release_whose_files_are_gone_is_left_at_once(device):
    assert start(device).stdout.startswith("a: ")
    assert record.load(device).taken_back.why == "its files are gone"


def test_commands_go_to_the_agent_in_place_and_count_as_no_start(device):
    agent(device, "b", "exit 3")
    assert start(device, command="status").stdout.startswith("a: ")
    assert record.load(device).trial.starts == 0


def test_the_installer_s_agent_answers_where_nothing_was_ever_updated(tmp_path):
    done = start(tmp_path)
    assert "agent.toml does not exist" in done.stderr
    assert record.load(tmp_path) == Record()


@pytest.mark.parametrize(
    ("words", "directory"),
    [(["run"], launcher.DIRECTORY), (["run", "--dir", "/x"], "/x"), (["run", "--dir=/y"], "/y"),
     (["run", "--dir"], launcher.DIRECTORY)],
)  # fmt: skip
def test_the_directory_is_the_one_that_the_command_names(words, directory):
    assert launcher.directory_in(words) == Path(directory)
