"""The demo's child processes: started, watched, ended, and found again after a run that was killed.

A process is known by its id *and* the tick at which it started, so that a recycled id is never
taken for ours.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muster_protocol.wire.errors import MusterError

GRACE_SECONDS = 10.0
LOG_LINES_SHOWN = 12


class ProcessError(MusterError):
    """A process of the demo could not be run or has ended; the message holds its last words."""


@dataclass(frozen=True)
class Identity:
    """Who a process is, until the machine restarts."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of a living process, or None."""
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The command's name stands in parentheses and may hold anything.
        fields = status[status.rindex(")") + 2 :].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot)


class Child:
    """One running process in its own process group, its output in ``<directory>/<name>.log``."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._pid_file = directory / f"{name}.pid"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The terminal's Ctrl-C is for the demo, which ends its children in order.
                start_new_session=True,
            )
        identity = Identity.of(self._process.pid)
        if identity is not None:
            self._pid_file.write_text(json.dumps(vars(identity)))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise ProcessError when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise ProcessError(f"{self.name} ended with code {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(["", *lines, f"(all of it: {self.log})"])

    def stop(self) -> None:
        """Ask it to end, and kill its whole group when it doesn't."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)


def run(command: Sequence[str], timeout_seconds: float = 60.0) -> str:
    """Run a command to its end and return its output; raises ProcessError with its last words."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessError(f"{' '.join(command)}: not done after {timeout_seconds:g} s") from None
    if ended.returncode != 0:
        words = (ended.stderr or ended.stdout).strip()
        raise ProcessError(f"{' '.join(command)}: code {ended.returncode}: {words}")
    return ended.stdout


def runs(directory: Path, name: str) -> bool:
    """Whether the process of this name, by its pid file in ``directory``, is alive."""
    identity = _read(directory / f"{name}.pid")
    return identity is not None and Identity.of(identity.pid) == identity


def end_leftovers(directory: Path) -> list[str]:
    """End what a killed run left behind, by its pid files; returns the names of what was ended."""
    ended = []
    for file in sorted(directory.glob("*.pid")):
        identity = _read(file)
        if identity is not None and Identity.of(identity.pid) == identity:
            _end(identity)
            ended.append(file.stem)
        file.unlink(missing_ok=True)
    return ended


def _read(file: Path) -> Identity | None:
    try:
        return Identity(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _end(identity: Identity) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while Identity.of(identity.pid) == identity and time.monotonic() < deadline:
        time.sleep(0.05)  # not our child: only its pid can be asked
    if Identity.of(identity.pid) == identity:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(identity.pid, signal.SIGKILL)
