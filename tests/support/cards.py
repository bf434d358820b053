"""Images with the agent's Debian package, and the machines that boot from them."""

import signal
import subprocess
from pathlib import Path

from support.ports import HOST
from support.root_system import ENVIRONMENT, RootSystem
from support.served import Served

STOP_SECONDS = 90.0
COMMAND_SECONDS = 900.0
TOKEN_SECONDS = 7200
FIRST_BOOT = "/etc/muster/first-boot.env"
STATE = "/var/lib/muster"
BOOT = r"""
set -eu
unit=/usr/lib/systemd/system/muster-agent.service
said() { sed -n "s|^$1=||p" "$unit" "$unit.d/first-boot.conf"; }
set -a; . /etc/muster/first-boot.env; set +a
install -d -m 0750 -o muster -g muster /run/muster
exec setpriv --reuid muster --regid muster --clear-groups sh -eu -c "
  until $(said ExecStartPre); do sleep $(said RestartSec); done
  cd /var/lib/muster
  sed -i 's|^# report_seconds = .*|report_seconds = 2.0|' agent.toml
  grep -q '^tcp_port' agent.toml || cat /etc/site.toml >>agent.toml
  exec $(said ExecStart)"
"""
"""What a service manager would do by the package's unit."""


def install(system: RootSystem, package: Path) -> RootSystem:
    """Put the package in as whoever makes an image does it; no systemd runs there."""
    system.put("/tmp/muster-agent.deb", package.read_bytes())
    system.run("dpkg", "-i", "/tmp/muster-agent.deb")
    (system.made / "tmp/muster-agent.deb").unlink()
    return system


def provision(system: RootSystem, hub: Served, labels: dict[str, str], *, uses: int) -> RootSystem:
    """Put the hub's factory root and one token for all cards into an image."""
    system.put("/etc/hosts", f"{HOST} localhost\n")
    system.put("/etc/muster/root.json", (hub.data / "tuf" / "1.root.json").read_bytes())
    asked = {"labels": labels, "uses": uses, "expires_seconds": TOKEN_SECONDS}
    token = hub.ask("/enroll-tokens", asked)["token"]
    lines = f"HUB=https://localhost:{hub.http}\nTOKEN={token}\n"
    system.put(FIRST_BOOT, lines, 0o600)
    return system


class Machine:
    """One copy of an image, which boots by the package's own unit."""

    def __init__(self, image: RootSystem, made: Path, site: str) -> None:
        """``made`` is the folder for what the machine writes, with the device's name; ``site`` what
        stands in ``agent.toml`` beside what enrolment writes, a ``tcp_port`` among it."""
        self.system = image.above(made)
        self.log = made.with_name(f"{made.name}.log")
        self.site = site
        self.process: subprocess.Popen[bytes] | None = None
        named = (image.made / FIRST_BOOT.lstrip("/")).read_text() + f"DEVICE={made.name}\n"
        self.system.put(FIRST_BOOT, named, 0o600)

    def boot(self) -> None:
        self.system.put("/etc/site.toml", f"\n{self.site}")
        self.process = self.system.start(self.log, ["sh", "-c", BOOT])

    def inside(self, path: str) -> Path:
        """A file of the running machine as it sees it."""
        assert self.process is not None, "it is booted"
        return Path(f"/proc/{self.process.pid}/root") / path.lstrip("/")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command on the running machine, as the agent's user."""
        owner = self.inside(STATE).stat()
        asked = ["chroot", f"--userspec={owner.st_uid}:{owner.st_gid}", self.inside("/"), *words]
        return subprocess.run(
            asked, capture_output=True, text=True, check=False,
            timeout=COMMAND_SECONDS, env=ENVIRONMENT,
        )  # fmt: skip

    def pull(self) -> None:
        """Stop it as a service manager does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS)
            self.process = None
