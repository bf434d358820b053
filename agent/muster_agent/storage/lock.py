"""One agent a directory: a lock the kernel releases when its holder dies, however it dies."""

import errno
import fcntl
import os
from pathlib import Path

from muster_protocol.wire.errors import MusterError

FILE = "agent.pid"


class AlreadyRunning(MusterError):
    """Another agent serves this directory."""


class Lock:
    """Held from ``acquire`` to the end of the process or ``release``."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raise AlreadyRunning, naming the other's pid, or OSError.

        A disk that only reads keeps nobody out: what is committed there is served all the same.
        """
        descriptor, writable = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise AlreadyRunning(
                f"{self._path}: another muster-agent (pid {holder}) serves this directory"
            ) from None
        if writable:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def _open(self) -> tuple[int, bool]:
        """The file, or on a disk that only reads what is there; whether it can be written."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), True
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        path = self._path if self._path.exists() else self._path.parent
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False

    def release(self) -> None:
        """Let another process have the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def holder(directory: Path) -> int | None:
    """The pid of the agent that serves ``directory``, None when there is none."""
    path = directory / FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else 0
    else:
        return None
    finally:
        os.close(descriptor)
