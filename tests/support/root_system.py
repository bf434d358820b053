"""Root file systems that a test may write to: a small Debian, made once, under an overlay each.

The lower layer comes from the package sources of this machine and is kept in ``build/``; what a
test writes is in a folder of its own. Commands run in a mount namespace and a chroot, so nothing of
it is left when they end.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKE_SECONDS = 1800.0
NEEDED = ("mmdebstrap", "unshare", "dpkg-deb")
INCLUDED = "python3,python3-pip-whl,adduser,tzdata,init-system-helpers,mosquitto"
"""What the packages depend on: they are installed by dpkg, which fetches nothing."""
BASE = ROOT / "build" / f"root-system-{hashlib.sha256(INCLUDED.encode()).hexdigest()[:8]}"
COMMAND_SECONDS = 900.0
"""Bounds a failure: a busy machine takes minutes to unpack and compile what a hub needs."""
MOUNT = """
set -eu
mkdir -p "$2" "$2.work" "$2.root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$2.work" "$2.root"
mount -t proc proc "$2.root/proc"
mount --rbind /dev "$2.root/dev"
root="$2.root"
shift 2
exec chroot "$root" "$@"
"""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def why_not() -> str:
    """What this machine lacks for a root file system; empty: nothing."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"not installed: {' '.join(missing)} (deploy/need mmdebstrap)"
    return "" if os.geteuid() == 0 else "only root mounts file systems"


def release() -> str:
    """The code name of this machine's Debian, which is the base's too."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def base() -> Path:
    """The lower layer; the first time it takes a minute or two and the package sources."""
    return small_debian(BASE, release(), INCLUDED)


def sources() -> list[Path]:
    """The lists that say where this machine's packages come from."""
    return [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt").glob("*.d/*.sources")]


def small_debian(to: Path, suite: str, included: str, *options: str) -> Path:
    """The folder ``to`` with a Debian of that release; made whole or not at all, and once."""
    if not (to / "etc" / "os-release").exists():
        made = to.with_name(f"{to.name}.{os.getpid()}")
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *options,
             f"--include={included}", suite, made, *sources()],
            check=True, timeout=MAKE_SECONDS,
        )  # fmt: skip
        made.rename(to)
    return to


@dataclass(frozen=True)
class RootSystem:
    """``layers`` below, the lowest last; what is written is under ``made``."""

    layers: tuple[Path, ...]
    made: Path

    def above(self, made: Path) -> "RootSystem":
        """Another system that starts from this one as it is."""
        return RootSystem((self.made, *self.layers), made)

    def command(self, *words: object) -> list[str]:
        lower = ":".join(map(str, self.layers))
        mounted = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", lower, str(self.made)]
        return [*mounted, *map(str, words)]

    def run(self, *words: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            self.command(*words),
            capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS, env=ENVIRONMENT,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def start(self, log: Path, words: Sequence[object]) -> "subprocess.Popen[bytes]":
        with log.open("ab") as to:
            return subprocess.Popen(
                self.command(*words), stdout=to, stderr=subprocess.STDOUT, env=ENVIRONMENT
            )

    def put(self, path: str, text: str | bytes, mode: int = 0o644) -> None:
        """A file as whoever makes an image would write it, owned by root."""
        to = self.made / path.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(text.encode() if isinstance(text, str) else text)
        to.chmod(mode)
