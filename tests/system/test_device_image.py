"""``install-device`` where an image is built: no systemd runs, and nothing may be enrolled yet.

The scripts run with this machine's own tools on a copy of its system that keeps what they write
apart; only what would be downloaded is stood in for.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MOUNT = """
set -eu
for place in etc opt usr/local var/lib; do
  mkdir -p "$1/made/$place" "$1/work/$place"
  mount -t overlay overlay -o "lowerdir=/$place,upperdir=$1/made/$place,workdir=$1/work/$place" \\
    "/$place"
done
shift
exec "$@"
"""
PYTHON = """#!/bin/sh
# In place of python3: `-m venv DIR` leaves a pip that does nothing, and an agent that enrols.
[ "$1" = -m ] || exit 0
mkdir -p "$3/bin"
printf '#!/bin/sh\\n' >"$3/bin/python"
printf '#!/bin/sh\\necho "$*" >>/var/lib/muster/asked\\necho "# run_dir = x" >agent.toml\\n' \\
  >"$3/bin/muster-agent"
chmod +x "$3/bin/python" "$3/bin/muster-agent"
"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "systemctl"))),
        reason="takes root, unshare and systemctl",
    ),
    pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="a systemd runs here"),
]


class Image:
    """A system that is being made; what was written to it is under ``made``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made = directory / "made"
        tools = directory / "tools"
        tools.mkdir()
        (tools / "python3").write_text(PYTHON)
        (tools / "python3").chmod(0o755)
        self.root = directory / "1.root.json"
        self.root.write_text("{}")
        self._environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}

    def run(self, *words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        mounted = ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(self.directory)]
        return subprocess.run(
            [*mounted, *map(str, words)],
            capture_output=True, text=True, check=False, timeout=60,
            env=self._environment | environment,
        )  # fmt: skip

    def install(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.run(DEPLOY / "install-device", "--from", "x.whl", "--root", self.root, *words)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    made = Image(tmp_path)
    if made.run("true").returncode:
        pytest.skip("this kernel mounts no overlay here")
    return made


HUB = ("--hub", "https://hub.example:8443", "--token", "a.b.c")


def test_an_image_is_made_once_and_each_device_enrols_by_itself_when_it_first_starts(
    image: Image,
) -> None:
    done = image.install(*HUB, "--proxy", "http://proxy.plant:3128", "--first-boot")
    assert done.returncode == 0, done.stderr
    assert "each device enrols at https://hub.example:8443" in done.stdout
    made = image.made
    state = made / "var" / "lib" / "muster"
    assert (made / "usr" / "local" / "bin" / "muster-agent").is_symlink()
    assert (made / "etc/systemd/system/multi-user.target.wants/muster-agent.service").is_symlink()
    assert sorted(path.name for path in state.iterdir()) == ["trust"], "no identity to be copied"
    secret = made / "etc" / "muster" / "first-boot.env"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    lines = dict(line.split("=", 1) for line in secret.read_text().splitlines())
    for _ in range(3):  # Each start.
        started = image.run("/opt/muster/first-boot", **lines)
        assert started.returncode == 0, started.stderr
    wanted = " ".join([*HUB, "--proxy", "http://proxy.plant:3128"])
    asked = (state / "asked").read_text().splitlines()
    assert asked == [f"enroll --dir /var/lib/muster {wanted}"]
    assert (state / "agent.toml").read_text() == 'run_dir = "/run/muster"\n'


def test_an_image_with_an_identity_is_refused_lest_every_copy_be_the_same_device(
    image: Image,
) -> None:
    image.run("mkdir", "-p", "/var/lib/muster/identity")
    done = image.install(*HUB, "--first-boot")
    assert done.returncode == 1
    assert "every copy would be the same device" in done.stderr
    assert not (image.made / "opt" / "muster").exists()


def test_a_first_boot_without_a_hub_is_refused(image: Image) -> None:
    assert "--first-boot needs --hub" in image.install("--first-boot").stderr


def test_what_is_taken_off_keeps_the_device_s_own_and_a_purge_leaves_nothing(image: Image) -> None:
    assert image.install(*HUB, "--first-boot").returncode == 0
    done = image.run(DEPLOY / "uninstall-device")
    assert done.returncode == 0, done.stderr
    gone = ("opt/muster", "usr/local/bin/muster-agent", "etc/systemd/system/muster-agent.service")
    for path in gone:
        assert image.run("test", "-e", f"/{path}").returncode, path
    assert image.run("test", "-e", "/var/lib/muster/trust/root.json").returncode == 0
    assert image.run(DEPLOY / "uninstall-device", "--purge").returncode == 0
    assert image.run("test", "-e", "/var/lib/muster").returncode
    assert image.run("getent", "passwd", "muster").returncode
    assert "unknown option" in image.run(DEPLOY / "uninstall-device", "--prge").stderr
