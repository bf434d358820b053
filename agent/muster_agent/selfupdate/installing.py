"""A signed release into the idle side: verified, installed without a network, tried once, synced.

Each wheel is compared with its signed hash as it is unpacked, and a release has one version of each
distribution, so pip has nothing to choose and nothing to check. What was installed is referred to
only when all of it is safe on the disk: whatever stops this earlier leaves the agent as it was.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from muster_agent.selfupdate import record
from muster_agent.selfupdate.launcher import FACTORY_VARIABLE
from muster_agent.selfupdate.record import AgentTrial, Record
from muster_agent.storage.content import disk_free_bytes
from muster_agent.storage.files import make_directory, sync_file_system
from muster_protocol.wire import agent_release, limits
from muster_protocol.wire.agent_release import AgentRelease, Wheel
from muster_protocol.wire.errors import MusterError

WHEELS = "wheels.part"
UNPACKED_TIMES = 6
"""Room that a release needs, in times of its size: its wheels, and what they unpack to."""
INSTALL_SECONDS = 1800.0
"""A slow card takes minutes."""
VERSION_SECONDS = 120.0
PIECE_BYTES = limits.MIB
OUTPUT_CHARS = 400


class UpdateRefused(MusterError):
    """The release is not installed; what runs goes on."""


def install(
    file: BinaryIO,
    directory: Path,
    verify: Callable[[bytes], AgentRelease],
    *,
    online: bool,
    retry: bool,
    free_bytes_min: int,
    version: str = "",
    may_go_back: bool = False,
) -> AgentRelease:
    """Put the release in ``file`` on trial from the agent's next start on.

    ``verify`` opens the envelope, or raises. ``retry`` takes one that was taken back before,
    ``may_go_back`` the one that ran just before the present one, although it was issued earlier.
    ``version`` is the only one wanted; empty: any. Raises UpdateRefused, OSError.
    """
    release = verify(_envelope(file))
    if version and release.version != version:
        raise UpdateRefused(f"the release is agent {release.version}, wanted was {version}")
    found = record.load(directory)
    if found is None:
        raise UpdateRefused(
            "this agent was not started by muster-agent-launch, so nobody would switch to the "
            "release: run install-device again"
        )
    _check(found, release, retry=retry, may_go_back=may_go_back)
    make_directory(directory / record.DIRECTORY, mode=0o700)
    side = record.idle(found)
    place, wheels = record.side_of(directory, side), directory / record.DIRECTORY / WHEELS
    for stale in (place, wheels):
        shutil.rmtree(stale, ignore_errors=True)
    needed = release.size_bytes * UNPACKED_TIMES
    if disk_free_bytes(directory) - needed < free_bytes_min:
        raise UpdateRefused(
            f"{directory}: {needed} bytes are needed beside the {free_bytes_min} kept free"
        )
    try:
        wheels.mkdir(mode=0o700)
        for wheel in release.wheels:
            _unpack(file, wheel, wheels / wheel.name)
        _install(release, place, wheels)
        _check_version(release, place)
        shutil.rmtree(wheels)
        sync_file_system(directory)
    except BaseException:
        for unfinished in (place, wheels):
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    trial = AgentTrial(side, release.version, release.issued, online)
    record.change(directory, lambda now: record.put_on_trial(now, trial))
    return release


def become_owner(directory: Path) -> None:
    """Go on as whoever owns the agent's directory: root must not leave files there that the agent
    can't replace. Raises OSError.
    """
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def _envelope(file: BinaryIO) -> bytes:
    start = file.read(len(agent_release.HEAD) + agent_release.LENGTH_BYTES)
    length = agent_release.envelope_length(start)
    envelope = file.read(length)
    if len(envelope) != length:
        raise UpdateRefused("the file is cut short: copy it anew")
    return envelope


def _check(found: Record, release: AgentRelease, *, retry: bool, may_go_back: bool) -> None:
    if found.trial is not None:
        raise UpdateRefused(
            f"agent {found.trial.version} is on trial at the moment: wait for the outcome"
        )
    if release.version == found.version:
        raise UpdateRefused(f"agent {release.version} is in place already")
    goes_back = may_go_back and release.version == found.before
    if release.issued < found.issued and not goes_back:
        raise UpdateRefused(
            f"agent {release.version} was signed before the one in place, {found.version}: an old "
            "release must be signed anew to be installed again"
        )
    before = found.taken_back
    if before is not None and before.version == release.version and not retry:
        raise UpdateRefused(
            f"agent {release.version} was taken back ({before.why}): say --retry to try it again"
        )


def _unpack(file: BinaryIO, wheel: Wheel, path: Path) -> None:
    hashed, left = hashlib.sha256(), wheel.size_bytes
    with path.open("xb") as opened:
        while left:
            piece = file.read(min(left, PIECE_BYTES))
            if not piece:
                raise UpdateRefused(f"{wheel.name}: the file is cut short: copy it anew")
            hashed.update(piece)
            opened.write(piece)
            left -= len(piece)
    if hashed.hexdigest() != wheel.sha256:
        raise UpdateRefused(f"{wheel.name} is not what was signed: the copy is damaged or altered")


def _install(release: AgentRelease, place: Path, wheels: Path) -> None:
    """With the installer's pip, which a side doesn't have."""
    python = os.environ.get(FACTORY_VARIABLE, sys.executable)
    _run(INSTALL_SECONDS, python, "-m", "venv", "--without-pip", place)
    wanted = f"{agent_release.DISTRIBUTION}[{','.join(release.extras)}]=={release.version}"
    _run(
        INSTALL_SECONDS, python, "-m", "pip", "--isolated", "--python", place / "bin" / "python",
        "install", "--quiet", "--no-input", "--no-index", "--no-cache-dir",
        "--disable-pip-version-check", "--find-links", wheels, wanted,
    )  # fmt: skip


def _check_version(release: AgentRelease, place: Path) -> None:
    said = _run(
        VERSION_SECONDS, place / "bin" / "python", "-P", "-m", "muster_agent.app.cli", "--version"
    )
    if said != release.version:
        raise UpdateRefused(f"what was installed says that it is {said!r}, not {release.version}")


def _run(seconds: float, *command: str | Path) -> str:
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, check=False, timeout=seconds, text=True
        )
    except subprocess.TimeoutExpired:
        raise UpdateRefused(f"{command[0]} did not end within {seconds:g} s") from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[-OUTPUT_CHARS:]
        raise UpdateRefused(f"it can't be installed here: {words}")
    return done.stdout.strip()


def restart(pid: int | None) -> bool:
    """Stop the agent with this pid, for its service to start it anew; False: none ran."""
    if pid is None or pid <= 0:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return True
