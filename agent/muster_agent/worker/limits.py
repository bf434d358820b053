"""Bounds that the kernel keeps on a worker, and what it uses: rlimits, parent's death, timers."""

import ctypes
import math
import os
import resource
import signal
import time
from pathlib import Path

SERVING_BYTES = 64 * 1024 * 1024
"""Address space for connections and request bodies, on top of the model's own budget."""
_PR_SET_PDEATHSIG = 1
_UNLIMITED = resource.RLIM_INFINITY


def die_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends; exit if that already happened."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("the supervisor has gone")


def confine_memory(model_bytes: int) -> None:
    """Allow the address space to grow by the model's budget, counted from now."""
    limit = address_space_bytes() + model_bytes + SERVING_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine_cpu(seconds: float) -> None:
    """Be killed by SIGXCPU after this much more processor time."""
    soft = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, _UNLIMITED))


def lift_cpu() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_UNLIMITED, _UNLIMITED))


def rearm(seconds: float) -> None:
    """Be killed by SIGALRM unless this is called again in time: works while the GIL is held."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def address_space_bytes() -> int:
    return _status("VmSize:")


def address_space_peak_bytes() -> int:
    return _status("VmPeak:")


def resident_bytes() -> int:
    return _status("VmRSS:")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0
