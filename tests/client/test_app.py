"""`muster` apart from any hub: where it connects, what it says when something is wrong."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from muster_client.app import app
from muster_client.failures import Exit

COMMAND = [sys.executable, "-c", "from muster_client.app import main; main()"]


def muster(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**clean, "XDG_CONFIG_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_hub_the_operator_is_told_how_to_name_one() -> None:
    ended = muster("device", "list")
    assert ended.returncode == Exit.USAGE
    assert ended.stderr.count("\n") == 1
    assert "MUSTER_HUB" in ended.stderr


def test_a_hub_that_does_not_answer_is_one_line_and_its_own_exit_code() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ended = muster("--hub", url, "device", "list")
    assert ended.returncode == Exit.UNREACHABLE
    assert ended.stderr.startswith(f"muster: no hub answers at {url}")
    assert ended.stderr.count("\n") == 1


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    ended = muster("--hub", "https://x", "--ca", str(tmp_path / "ca.pem"), "device", "list")
    assert ended.returncode == Exit.USAGE
    assert "ca.pem" in ended.stderr


def test_a_bundle_folder_without_a_manifest_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    ended = muster("--hub", "http://127.0.0.1:9", "model", "push", str(tmp_path))
    assert ended.returncode == Exit.USAGE
    assert "manifest.json" in ended.stderr


@pytest.mark.parametrize(
    "command",
    ["", "device", "model", "baseline", "rollout", "drift", "alert", "tail"],
)
def test_every_command_explains_itself(command: str) -> None:
    ended = CliRunner().invoke(app, [*command.split(), "--help"])
    assert ended.exit_code == 0
    assert "Usage" in ended.output
