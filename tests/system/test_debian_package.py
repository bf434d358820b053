"""The Debian packages in a real root file system where no systemd runs, as in an image."""

import re
import shutil
import ssl
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from muster_agent.base import config
from muster_agent.selfupdate import record
from muster_hub.signing import agent_releases
from support import agent_wheels, debian_package, root_system
from support.ports import HOST, free_port
from support.root_system import RootSystem
from support.tuf_repository import Repository
from support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(root_system.why_not()), reason=root_system.why_not() or "-"),
]
WAIT_SECONDS = 300.0


@dataclass(frozen=True)
class Kind:
    """What a package puts where."""

    user: str
    state: str
    commands: tuple[str, ...]
    holds: tuple[str, ...]
    """What makes it this device or this hub."""
    settings: tuple[str, ...] = ()
    """Files of the administrator: kept as they were changed, until it is purged."""
    gone: tuple[str, ...] = ()
    """What goes with it when it is purged, too."""


KINDS = {
    "muster-agent": Kind(
        user="muster",
        state="/var/lib/muster",
        commands=("muster-agent", "muster-agent-launch"),
        holds=("agent.toml", "state.db"),
        gone=("/etc/muster",),
    ),
    "muster-hub": Kind(
        user="muster-hub",
        state="/var/lib/muster-hub",
        commands=("muster-hub", "muster"),
        holds=("hub.toml", "hub.db"),
        settings=("/etc/default/muster-hub",),
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Callable[[str], Path]:
    """One package of this tree by its name."""
    made: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in made:
            made[name] = debian_package.built(tmp_path_factory.mktemp("deb"), name)
        return made[name]

    return build


@pytest.fixture
def system(tmp_path) -> RootSystem:
    return RootSystem((root_system.base(),), tmp_path / "made")


def install(system: RootSystem, package: Path, check: bool = True):
    system.put("/tmp/it.deb", package.read_bytes())
    return system.run("dpkg", "-i", "/tmp/it.deb", check=check)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_put_in_upgraded_taken_off_and_purged_without_a_trace(
    system, package, name, tmp_path
):
    kind, first = KINDS[name], package(name)
    later = debian_package.newer(first, tmp_path)
    install(system, first)
    for command in kind.commands:
        # Not a path, but what the page of help calls itself, wherever it is broken into lines.
        assert f"{command.removesuffix('-launch')} [" in system.run(command, "--help").stdout
    state = system.made / kind.state.lstrip("/")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [*state.iterdir()] == [], "no identity in an image: every copy would be the same"
    wants = system.made / f"etc/systemd/system/multi-user.target.wants/{name}.service"
    assert wants.is_symlink(), "it starts when the image boots"
    broker = wants.with_name("muster-hub-broker.service")
    assert not broker.is_symlink(), "only who wants it has it start"
    kept = dict.fromkeys(kind.holds, "x\n")
    for file, text in kept.items():
        system.put(f"{kind.state}/{file}", text)
    for file in kind.settings:
        system.put(file, "CHANGED=1\n", 0o640)

    install(system, later)
    assert "-2+py" in system.run("dpkg-query", "-W", name).stdout
    assert wants.is_symlink()

    system.run("dpkg", "--remove", name)
    assert not system.run("sh", "-c", f"ls -d /usr/lib/{name}", check=False).stdout
    assert {path.name: path.read_text() for path in state.iterdir()} == kept
    for file in kind.settings:
        assert system.run("cat", file).stdout == "CHANGED=1\n"

    install(system, later)
    system.run("dpkg", "--purge", name)
    gone = (kind.state, *kind.settings, *kind.gone, f"/usr/lib/{name}", wants)
    for path in gone:
        assert system.run("test", "-e", path, check=False).returncode, path
    assert system.run("getent", "passwd", kind.user, check=False).returncode


def test_both_runtimes_load_from_the_agent_s(system, package):
    install(system, package("muster-agent"))
    python = "/usr/lib/muster-agent/bin/python3"
    system.run(python, "-I", "-c", "import onnxruntime, ai_edge_litert.interpreter, muster_agent")


def test_the_agent_s_takes_a_release_of_itself(system, package, tmp_path):
    """With the system's pip, which it depends on: there is none of its own."""
    install(system, package("muster-agent"))
    repository = Repository(now=int(time.time()))
    state = tmp_path / "state"
    (state / "trust").mkdir(parents=True)
    (state / "trust" / "root.json").write_bytes(repository.factory_root)
    config.write(state, {"device": "press-7", "broker.host": HOST, "broker.port": free_port()})
    record.change(state, lambda found: record.begin(found)[0])
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    needed = agent_wheels.needed(wheels, "7.0")
    file = tmp_path / "7.0.muster"
    agent_releases.make(needed, ["agent"], repository.keys["targets"][0], file, repository.now)
    system.put("/tmp/7.0.muster", file.read_bytes())
    shutil.copytree(state, system.made / "var/lib/muster", dirs_exist_ok=True)
    system.run("chown", "-R", "muster:muster", "/var/lib/muster")
    as_agent = ("setpriv", "--reuid", "muster", "--regid", "muster", "--clear-groups")
    system.run(*as_agent, "muster-agent", "self", "apply", "/tmp/7.0.muster")
    assert "7.0" in system.run(*as_agent, "muster-agent", "self", "show").stdout
    assert record.load(system.made / "var/lib/muster").trial.version == "7.0"


def test_the_hub_s_serves_as_its_unit_starts_it(system, package, tmp_path):
    install(system, package("muster-hub"))
    system.put("/etc/hosts", f"{HOST} localhost\n")
    http = free_port()
    as_hub = ("setpriv", "--reuid", "muster-hub", "--regid", "muster-hub", "--clear-groups")
    system.run(
        *as_hub, "muster-hub", "init", "--data", "/var/lib/muster-hub", "--name", "localhost",
        "--all-keys-here", "--http-port", http, "--broker-port", free_port(),
    )  # fmt: skip
    unit = (system.made / "usr/lib/systemd/system/muster-hub.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    log = tmp_path / "log"
    serving = system.start(log, [*as_hub, *start.split()])
    authority = system.made / "var/lib/muster-hub/keys/ca/ca.pem"
    context = ssl.create_default_context(cafile=authority)

    def answers() -> bool:
        address = f"https://localhost:{http}/api/v1/health"
        try:
            with urllib.request.urlopen(address, context=context, timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        assert eventually(answers, WAIT_SECONDS), log.read_text()
        profile = "/var/lib/muster-hub/operator.toml"
        assert "online" in system.run("muster", "--profile", profile, "status").stdout
    finally:
        serving.terminate()
        assert serving.wait(90) == 0, log.read_text()


def test_it_stands_aside_where_the_install_script_was_before_it(system, package):
    system.put("/etc/systemd/system/muster-agent.service", "[Unit]\n")
    done = install(system, package("muster-agent"), check=False)
    assert done.returncode
    assert "run deploy/uninstall-device first" in done.stderr


@pytest.mark.skipif(shutil.which("piuparts") is None, reason="piuparts is not installed here")
@pytest.mark.parametrize("name", KINDS)
def test_debian_s_own_test_of_installing_and_purging_finds_nothing_left(package, name):
    done = subprocess.run(
        ["piuparts", f"--existing-chroot={root_system.base()}", "--no-upgrade-test",
         f"--distribution={root_system.release()}", package(name)],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
