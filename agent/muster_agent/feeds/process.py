"""The supervisor's side of a feed's process: start it, say what its slot runs, hear, end it."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muster_agent.feeds.control import LINE_BYTES_MAX, Notice, Serve, line_of, read_notice
from muster_agent.worker.process import import_path

PACKAGES = ("asyncua", "pymodbus", "paho", "PIL", "cv2", "serial")
_BEGIN = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); "
    "from muster_agent.feeds.main import main; sys.exit(main())"
)
_KEPT = ("LD_LIBRARY_PATH",)


@dataclass(frozen=True)
class FeedSaid:
    """A feed's process said something."""

    feed: str
    notice: Notice


@dataclass(frozen=True)
class FeedEnded:
    """A feed's process has ended."""

    feed: str
    pid: int
    status: int
    """Its exit code; of a signal, the negative number."""


FeedEvent = FeedSaid | FeedEnded


class FeedProcess:
    """One process in a group of its own; methods never block. Used from one thread."""

    def __init__(self, name: str, directory: Path, deliver: Callable[[FeedEvent], None]) -> None:
        """Start it; raises OSError when that can't be done."""
        self.name = name
        self._deliver = deliver
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-X", "faulthandler", "-c", _BEGIN),
                ":".join(import_path(*PACKAGES)),
                *("--dir", str(directory.absolute()), "--feed", name),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={each: os.environ[each] for each in _KEPT if each in os.environ}
            | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None, "it is a pipe"
        os.set_blocking(self._process.stdin.fileno(), False)
        threading.Thread(target=self._hear, name=f"feed {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def serve(self, message: Serve) -> None:
        """Say what the slot runs. A feed that doesn't read is ended: it is begun anew."""
        assert self._process.stdin is not None, "it is a pipe"
        try:
            os.write(self._process.stdin.fileno(), line_of(message))
        except BlockingIOError:
            self.kill()
        except OSError:
            return  # It has ended, which the other thread says.

    def stop(self) -> None:
        """Let it give its sinks the last word and end."""
        assert self._process.stdin is not None, "it is a pipe"
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def _hear(self) -> None:
        assert self._process.stdout is not None, "it is a pipe"
        with self._process.stdout as lines:
            while line := lines.readline(LINE_BYTES_MAX):
                if (notice := read_notice(line)) is not None:
                    self._deliver(FeedSaid(self.name, notice))
        self._deliver(FeedEnded(self.name, self.pid, self._process.wait()))
