"""The command line's manners: one clear line, the right exit code, nothing changed."""

import os
import socket
import subprocess
import sys

import pytest

from muster_agent.app import cli
from muster_agent.app.notify import Notifier
from muster_agent.base import config
from muster_agent.storage.lock import AlreadyRunning, Lock, holder
from muster_agent.update.interlocks import DeviceConditions


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_directory_that_is_not_enrolled_says_what_to_do(tmp_path, capsys, command):
    assert cli.main([command, "--dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "agent.toml does not exist: enrol this device first" in error
    assert list(tmp_path.iterdir()) == []


def test_doctor_on_a_bare_directory_fails_with_a_line_for_each_check(tmp_path, capsys):
    config.write(tmp_path, {"device": "cam-1", "broker.host": "127.0.0.1", "broker.port": 1})
    assert cli.main(["doctor", "--dir", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    for check in ("config", "agent", "disk", "clock", "database", "identity", "trust", "broker"):
        assert sum(line.split()[1] == check for line in output.splitlines()) == 1
    assert "FAIL  identity" in output


def test_doctor_for_programs_is_json(tmp_path, capsys):
    assert cli.main(["doctor", "--json", "--dir", str(tmp_path)]) == 1
    assert '"grade": "fail"' in capsys.readouterr().out


def test_a_wrong_option_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--nonsense"])
    assert ended.value.code == 2


@pytest.mark.parametrize("missing", ["paho", "tuf", "numpy", "cryptography"])
def test_a_missing_extra_is_named(tmp_path, missing):
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from muster_agent.entry import agent; agent()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{missing!r}" in done.stderr
    assert "pip install 'muster-edge[agent" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_supervisor_imports_no_inference_runtime_and_no_server():
    script = (
        "import sys, muster_agent.app.cli\n"
        "print([m for m in ('onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'fastapi',"
        " 'sqlmodel', 'pydantic', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_lock_is_one_holders_and_names_it(tmp_path):
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert holder(tmp_path) is None
    first.acquire()
    assert holder(tmp_path) == os.getpid()
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert holder(tmp_path) is None


def test_systemd_is_told_and_its_absence_is_no_trouble(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        notifier = Notifier(
            {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        )
        notifier.notify("READY=1", "STATUS=serving")
        assert listener.recv(100) == b"READY=1\nSTATUS=serving"
        assert notifier.watchdog_seconds == 30.0
    notifier.notify("WATCHDOG=1")
    Notifier({}).notify("READY=1")


def test_a_hold_is_put_and_taken_away_by_name_and_only_on_an_agents_directory(tmp_path, capsys):
    assert cli.main(["hold", "--dir", str(tmp_path / "nowhere")]) == 1
    assert "enrol this device first" in capsys.readouterr().err
    config.write(tmp_path, {"device": "cam-1", "broker.host": "localhost"})
    assert cli.main(["hold", "--dir", str(tmp_path), "--reason", "Ada"]) == 0
    assert DeviceConditions(tmp_path, {}).hold("main") == "the operator's release: Ada"
    assert cli.main(["release", "main", "--dir", str(tmp_path)]) == 0
    assert "was not held" in capsys.readouterr().out
    assert cli.main(["release", "--dir", str(tmp_path)]) == 0
    assert DeviceConditions(tmp_path, {}).hold("main") == ""
    assert cli.main(["hold", "No Slot", "--dir", str(tmp_path)]) == 1
    assert "slot 'No Slot'" in capsys.readouterr().err
