"""Stories lived in processes of their own: ``stories.py trace|kill|check STORY ...``.

Only children change the disk, so that this process never comes near the deadly number itself.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from crash import bugs, plant
from crash.tracer import deadly_number

_LIBC = ctypes.CDLL(None)
_VOID = {
    "openat": lambda: _LIBC.openat(-1, None, 0),
    "write": lambda: _LIBC.write(-1, None, 0),
    "pwrite64": lambda: _LIBC.pwrite64(-1, None, 0, 0),
    "fsync": lambda: _LIBC.fsync(-1),
    "syncfs": lambda: _LIBC.syncfs(-1),
    "fdatasync": lambda: _LIBC.fdatasync(-1),
    "ftruncate": lambda: _LIBC.ftruncate(-1, 0),
    "rename": lambda: _LIBC.rename(None, None),
    "symlink": lambda: _LIBC.symlink(None, None),
    "unlink": lambda: _LIBC.unlink(None),
    "unlinkat": lambda: _LIBC.unlinkat(-1, None, 0),
    "mkdir": lambda: _LIBC.mkdir(None, 0),
    "rmdir": lambda: _LIBC.rmdir(None),
}
"""Calls that fail at once, and are counted."""


def in_child(task: Callable[[], None]) -> tuple[int, int]:
    """Run ``task`` in a child; its process id and wait status."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(child, 0)


def trace(story: str, directory: Path, bug: str) -> None:
    def live() -> None:
        bugs.plant(bug)
        plant.live(story, directory)

    child, status = in_child(live)
    assert status == 0
    print(child)


def kill(story: str, cases: list[str]) -> None:
    """Each case is ``syscall:number:directory``; says which of them died at it."""
    died = []
    for case in cases:
        name, number, directory = case.split(":", 2)

        def live(name: str = name, number: int = int(number), at: Path = Path(directory)) -> None:
            for _ in range(deadly_number(name) - number):
                _VOID[name]()
            plant.live(story, at)

        _, status = in_child(live)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            died.append(f"{name}:{number} died")
    print("\n".join(died))


def check(story: str, bug: str, directories: list[str]) -> None:
    """Say what is wrong with the first of these disks on which an agent with that bug fails."""
    bugs.plant(bug)
    for directory in directories:
        if wrong := plant.after_crash(story, Path(directory)):
            print(*wrong, sep="\n")
            return


if __name__ == "__main__":
    mode, story, *arguments = sys.argv[1:]
    if mode == "trace":
        trace(story, Path(arguments[0]), arguments[1])
    elif mode == "check":
        check(story, arguments[0], arguments[1:])
    else:
        kill(story, arguments)
