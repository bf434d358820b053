"""What a device and an operator get: built, installed into empty environments, and asked what came
along."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER_ONLY = {"fastapi", "starlette", "sqlmodel", "sqlalchemy", "pydantic", "uvicorn", "scipy"}

HELP_MODULES = 450
"""What a page of help may import; today 368, of the standard library and the terminal's."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def run(*command: object, timeout: float = 240, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, check=False, timeout=timeout, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def installed(wheel: Path, folder: Path, extras: str) -> Path:
    """``bin`` of a new environment with the wheel and these extras."""
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (folder / "pins.txt").write_text("\n".join(pins))
    made = run(sys.executable, "-m", "venv", folder / "venv")
    assert made.returncode == 0, made.stdout + made.stderr
    done = run(
        folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-input", "--no-compile",
        "--disable-pip-version-check", "-c", folder / "pins.txt", f"{wheel}[{extras}]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def device(wheel, tmp_path_factory) -> Path:
    """What a device that runs ONNX has."""
    return installed(wheel, tmp_path_factory.mktemp("device"), "agent,onnx")


@pytest.fixture(scope="module")
def desk(wheel, tmp_path_factory) -> Path:
    """What an operator has at their desk."""
    return installed(wheel, tmp_path_factory.mktemp("desk"), "cli")


CONSOLE = ROOT / "hub/muster_hub/console"


def test_the_wheel_holds_every_file_that_the_console_s_pages_are_made_of(wheel):
    pages = {
        f"muster_hub/console/{path.relative_to(CONSOLE)}"
        for folder in ("static", "templates")
        for path in (CONSOLE / folder).rglob("*")
        if path.is_file()
    }
    assert len(pages) > 20
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
    assert pages - held == set()
    fonts_and_frameworks = {name for name in held if name.endswith((".woff2", ".min.js", ".map"))}
    assert fonts_and_frameworks == set()


def packages(where: Path) -> set[str]:
    listed = run(where / "python", "-m", "pip", "list", "--format=freeze").stdout
    return {line.split("==")[0].lower() for line in listed.splitlines()}


def test_a_device_gets_none_of_the_servers_stack(device):
    names = packages(device)
    assert {"muster-edge", "onnxruntime", "paho-mqtt", "tuf"} <= names
    assert names & SERVER_ONLY == set()


@pytest.mark.parametrize(("command", "extra"), [("muster-hub", "hub"), ("muster", "cli")])
def test_a_command_that_a_device_has_not_names_the_missing_extra(device, command, extra):
    done = run(device / command, "--help")
    assert done.returncode != 0
    assert f"muster-edge[{extra}]" in done.stderr
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
        "        of_extra = {'__main__', 'tflite', 'modbus', 'opcua'} & {*found.name.split('.')}\n"
        "        if found.ispkg or not of_extra:\n"
        "            importlib.import_module(found.name)\n"
    )
    done = run(device / "python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_operator_gets_none_of_the_servers_stack_and_no_numbers_library(desk):
    names = packages(desk)
    assert {"muster-edge", "typer", "httpx", "pyyaml"} <= names
    # Typer itself brings pydantic; no module of the client imports it.
    server = SERVER_ONLY - {"pydantic"}
    assert names & (server | {"numpy", "onnxruntime", "cryptography", "tuf", "alembic"}) == set()


HELP = """
import sys
from muster_client.entry import main
sys.argv = ["muster", "--help"]
try:
    main()
except SystemExit as ended:
    code = ended.code
print("ENDED", code)
print(*sys.modules)
"""


def test_a_page_of_help_loads_no_command_and_no_library_of_theirs(desk):
    """What it costs is what it imports; seconds differ from machine to machine."""
    done = run(desk / "python", "-c", HELP)
    text, _, loaded = done.stdout.partition("ENDED 0")
    assert "rollout" in text, done.stderr
    modules = set(loaded.split())
    assert not [name for name in modules if name.startswith("muster_client.commands.")]
    assert modules & {"asyncio", "httpx", "numpy", "ssl", "yaml"} == set()
    assert len(modules) < HELP_MODULES


def test_what_needs_another_extra_names_it_and_leaves_the_rest_alone(desk, tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n")
    done = run(desk / "muster", "baseline", "fit", tmp_path / "train.csv")
    assert done.returncode == 2
    assert "pip install 'muster-edge[baseline]'" in done.stderr
    assert "Traceback" not in done.stderr
    for words in ("device list", "rollout start", "apply"):
        helped = run(desk / "muster", *words.split(), "--help")
        assert helped.returncode == 0, helped.stderr


def test_every_module_of_the_client_loads_from_the_wheel(desk, tmp_path):
    script = (
        "import importlib, pkgutil, muster_client\n"
        "for found in pkgutil.walk_packages(muster_client.__path__, 'muster_client.'):\n"
        "    if not found.name.startswith(('muster_client.training.', 'muster_client.packing.', "
        "'muster_client.importers.')) and found.name != 'muster_client.commands.baselines':\n"
        "        importlib.import_module(found.name)\n"
        "muster_client.Hub('http://127.0.0.1:9').close()\n"
    )
    done = run(desk / "python", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
