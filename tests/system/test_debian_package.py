"""The agent's Debian package in a real root file system where no systemd runs, as in an image."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from support import debian_package, root_system
from support.root_system import RootSystem

pytestmark = [
    pytest.mark.system,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(root_system.why_not()), reason=root_system.why_not() or "-"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return debian_package.built(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory) -> Path:
    """The same with the next revision's number."""
    folder = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "-R", package, folder / "tree"], check=True, timeout=300)
    control = folder / "tree/DEBIAN/control"
    text = control.read_text()
    assert "-1+py" in text
    control.write_text(text.replace("-1+py", "-2+py", 1))
    made = folder / "newer.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--build", folder / "tree", made], check=True, timeout=300
    )
    return made


@pytest.fixture
def system(tmp_path) -> RootSystem:
    return RootSystem((root_system.base(),), tmp_path / "made")


def install(system: RootSystem, package: Path, check: bool = True):
    system.put("/tmp/it.deb", package.read_bytes())
    return system.run("dpkg", "-i", "/tmp/it.deb", check=check)


def test_it_is_put_in_upgraded_taken_off_and_purged_without_a_trace(system, package, newer):
    install(system, package)
    assert "muster-agent" in system.run("muster-agent", "--help").stdout
    state = system.made / "var/lib/muster"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [*state.iterdir()] == [], "no identity in an image: every copy would be the same device"
    wants = system.made / "etc/systemd/system/multi-user.target.wants/muster-agent.service"
    assert wants.is_symlink(), "it starts when the image boots"
    kept = {"agent.toml": 'device = "d"\n', "state.db": "x"}
    for name, text in kept.items():
        system.put(f"/var/lib/muster/{name}", text)

    install(system, newer)
    assert "-2+py" in system.run("dpkg-query", "-W", "muster-agent").stdout
    assert wants.is_symlink()

    system.run("dpkg", "--remove", "muster-agent")
    assert not system.run("sh", "-c", "ls -d /usr/lib/muster-agent", check=False).stdout
    assert {path.name: path.read_text() for path in state.iterdir()} == kept

    install(system, newer)
    system.run("dpkg", "--purge", "muster-agent")
    for gone in ("/var/lib/muster", "/etc/muster", "/usr/lib/muster-agent", wants):
        assert system.run("test", "-e", gone, check=False).returncode, gone
    assert system.run("getent", "passwd", "muster", check=False).returncode


def test_both_runtimes_load_from_it(system, package):
    install(system, package)
    python = "/usr/lib/muster-agent/bin/python3"
    system.run(python, "-I", "-c", "import onnxruntime, ai_edge_litert.interpreter, muster_agent")


def test_it_stands_aside_where_the_install_script_was_before_it(system, package):
    system.put("/etc/systemd/system/muster-agent.service", "[Unit]\n")
    done = install(system, package, check=False)
    assert done.returncode
    assert "run deploy/uninstall-device first" in done.stderr


@pytest.mark.skipif(shutil.which("piuparts") is None, reason="piuparts is not installed here")
def test_debian_s_own_test_of_installing_and_purging_finds_nothing_left(package):
    done = subprocess.run(
        ["piuparts", f"--existing-chroot={root_system.base()}", "--no-upgrade-test",
         f"--distribution={root_system.release()}", package],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
