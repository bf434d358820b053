"""Where a worker process begins: ``python -m muster_agent.worker.boot --control FD``.

A candidate starts beside a model that is serving. So whatever is heavy before it is ready, imports,
loading, golden vectors, warm-up, runs in a thread of lowest priority; the thread that serves later
keeps its own. (Priorities are per thread on Linux, and no right is needed to give one up.)
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

NICENESS = 5
"""About a third of a serving worker's share of a core when both want it."""
T = TypeVar("T")


def gently(task: Callable[[], T]) -> T:
    """Run ``task`` in a thread of low priority and wait; raises what it raises."""
    done: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
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
    worker = gently(lambda: importlib.import_module("muster_agent.worker.main"))
    sys.exit(worker.main(sys.argv[1:]))
