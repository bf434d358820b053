"""What a device gets: built, installed into an empty environment, and asked what came along."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER_ONLY = {"fastapi", "starlette", "sqlmodel", "sqlalchemy", "pydantic", "uvicorn", "scipy"}

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def run(*command: object, timeout: float = 240, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, check=False, timeout=timeout, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Path:
    """``bin`` of an environment with the wheel and the extras of a device that runs ONNX."""
    folder = tmp_path_factory.mktemp("device")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (folder / "pins.txt").write_text("\n".join(pins))
    made = run(sys.executable, "-m", "venv", folder / "venv")
    assert made.returncode == 0, made.stdout + made.stderr
    installed = run(
        folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-input", "--no-compile",
        "--disable-pip-version-check", "-c", folder / "pins.txt", f"{wheel}[agent,onnx]",
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    return folder / "venv" / "bin"


def test_a_device_gets_none_of_the_servers_stack(device):
    listed = run(device / "python", "-m", "pip", "list", "--format=freeze").stdout
    names = {line.split("==")[0].lower() for line in listed.splitlines()}
    assert {"muster-edge", "onnxruntime", "paho-mqtt", "tuf"} <= names
    assert names & SERVER_ONLY == set()


@pytest.mark.parametrize("command", ["muster-hub", "muster"])
def test_a_command_of_the_hub_names_the_missing_extra_on_a_device(device, command):
    done = run(device / command, "--help")
    assert done.returncode != 0
    assert "muster-edge[hub]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_agent_answers_on_a_device_without_the_servers_stack(device):
    done = run(device / "muster-agent", "--help")
    assert done.returncode == 0, done.stderr
    assert "enroll" in done.stdout


def test_every_module_of_the_agent_loads_from_the_wheel(device, tmp_path):
    script = (
        "import importlib, pkgutil, muster_agent, muster_protocol\n"
        "for package in (muster_protocol, muster_agent):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if found.name.split('.')[-1] not in ('__main__', 'tflite'):\n"
        "            importlib.import_module(found.name)\n"
    )
    done = run(device / "python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
