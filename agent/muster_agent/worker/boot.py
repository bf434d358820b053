"""Where a worker process begins: ``python -I boot.py --path DIRECTORIES --control FD [--first]``.

Run as a file: an isolated interpreter has no other way to it where the agent is not installed in
the interpreter's own directories, so ``--path`` says where the agent and its runtimes are.

A candidate starts beside a model that is serving. So whatever is heavy before it is ready, imports,
loading, golden vectors, warm-up, runs in a thread of low priority; the thread that serves later
keeps its own. (Priorities are per thread on Linux, and no right is needed to give one up.)

Where processors have time left the thread takes only that: whoever serves interrupts it at once.
Where they have none, or with ``--first`` in a slot that nobody serves yet, it keeps a share, so
that it ends at all.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

NICENESS = 5
"""About a third of a serving worker's share of a core when both want it."""
FIRST, PATH = "--first", "--path"
T = TypeVar("T")


STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""By which a service or a machine is stopped. They are for the agent: it tells its workers to end,
each after its last request, and the kernel ends them with the agent."""


def step_back(*, first: bool) -> None:
    """Lower the calling thread's priority for good."""
    if not first and os.getloadavg()[0] < len(os.sched_getaffinity(0)):
        with contextlib.suppress(OSError):  # forbidden here: the share it is
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    with contextlib.suppress(OSError):  # An agent that stands back further already.
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def gently(task: Callable[[], T], *, first: bool = False) -> T:
    """Run ``task`` in a thread of low priority and wait; raises what it raises."""
    done: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        step_back(first=first)
        try:
            done.append(task())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="start")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return done[0]


if __name__ == "__main__":
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    place = sys.argv.index(PATH)
    sys.path[:] = sys.argv[place + 1].split(os.pathsep)
    del sys.argv[place : place + 2]
    worker = gently(
        lambda: importlib.import_module("muster_agent.worker.main"), first=FIRST in sys.argv
    )
    sys.exit(worker.main(sys.argv[1:]))
