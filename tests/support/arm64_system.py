"""Root file systems for arm64 on a machine that is none: an emulator runs their programs.

The kernel hands a program of another architecture to the emulator that is registered for it
(binfmt_misc). Registered with the flag F it is opened once, so programs in a chroot find it too.
A registration is the kernel's, for all of the machine, until it restarts; Debian's package
qemu-user-static makes the same one where systemd runs.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from support import cards, root_system
from support.root_system import RootSystem

ARCHITECTURE, MACHINE = "arm64", "aarch64"
"""Debian's word, and the kernel's."""
EMULATOR = "qemu-aarch64-static"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
MAGIC = (
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
"""How a program for it begins, and which bits of that count: an ELF header, fixed or not."""
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Debian's release with that Python: a package is for one."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster"
INSTALLED = f"{MACHINE}-agent-"
INCLUDED = "python3,python3-pip-whl,adduser,tzdata,init-system-helpers"
"""What the agent's package depends on: it is installed by dpkg, which fetches nothing."""
OPTIONS = (f"--architectures={ARCHITECTURE}", "--skip=check/qemu")
"""The check asks for one more program; here it is the kernel that is asked."""


class Unfit(Exception):
    """This machine can't run what is asked; says what is missing and how to get it."""


def prepare() -> None:
    """See to it that the kernel runs programs for arm64; raises Unfit."""
    missing = [name for name in root_system.NEEDED if shutil.which(name) is None]
    if missing:
        raise Unfit(f"not installed: {', '.join(missing)}: run deploy/need mmdebstrap")
    if os.geteuid() != 0:
        raise Unfit("only root mounts file systems: run it as root, or in a container as its root")
    if suite() == "":
        known = " or ".join(SUITES)
        raise Unfit(f"Debian has no Python {version()} for its arm64: prepare with Python {known}")
    if platform.machine() == MACHINE or _registered():
        return
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise Unfit(f"not installed: {EMULATOR}: run deploy/need {EMULATOR}")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False)
    begins, counts = MAGIC
    try:
        (BINFMT / "register").write_text(f":{EMULATOR}:M::{begins}:{counts}:{emulator}:F")
    except OSError as error:
        raise Unfit(
            f"the kernel takes no emulator ({BINFMT}/register: {error.strerror}): run it on the "
            "host, or where the container may (docker run --privileged)"
        ) from None


def _registered() -> bool:
    """Whether an emulator is, so that it works in a chroot too."""
    return any(
        fields.get("enabled") is not None
        and "F" in fields.get("flags:", "")
        and fields.get("magic", "").startswith("7f454c4602")
        and fields.get("magic", "").endswith("b700")
        for fields in map(_fields, BINFMT.glob("qemu-*"))
    )


def _fields(entry: Path) -> dict[str, str]:
    lines = (line.partition(" ") for line in entry.read_text().splitlines())
    return {name: rest for name, _, rest in lines}


def version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def suite() -> str:
    """The release of Debian for the Python that builds the packages; empty: none."""
    return SUITES.get(version(), "")


def installed(package: Path) -> tuple[Path, ...]:
    """The layers of a Debian with the agent's package in it, the lowest last.

    Kept in the user's cache by what goes into them; minutes the first time. Of those with a package
    the last is kept.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{MACHINE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lower = root_system.small_debian(_base(), suite(), INCLUDED, *OPTIONS)
        to = CACHE / f"{INSTALLED}{hashlib.sha256(package.read_bytes()).hexdigest()[:12]}"
        if not to.exists():
            for old in CACHE.glob(f"{INSTALLED}*"):
                shutil.rmtree(old)
            made = to.with_suffix(".part")
            cards.install(RootSystem((lower,), made), package)
            made.rename(to)
    return to, lower


def _base() -> Path:
    parts = [suite(), INCLUDED, *OPTIONS]
    parts += [path.read_text() for path in sorted(root_system.sources())]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return CACHE / f"{MACHINE}-{digest}"
