"""Bounds that the kernel keeps on a worker, and what it uses: rlimits, parent's death, timers."""

import contextlib
import ctypes
import math
import os
import resource
import signal
import time
from pathlib import Path

from muster_agent.worker.http1 import BODY_BYTES_MAX

SERVING_BYTES = 64 * 1024 * 1024
"""Address space for connections and request bodies, on top of the model's own budget."""
SERVING_BYTES_PER_REQUEST_BYTE = 6
"""Likewise, where requests may be large: two are held, and one is read into objects and arrays."""
DESCRIPTORS_MAX = 256
"""Twice the connections that a worker holds at most, with room for the bundle's files."""
TASKS_MORE = 64
STATUS_BYTES_MAX = 64 * 1024
_PR_SET_PDEATHSIG = 1
_UNLIMITED = resource.RLIM_INFINITY


def die_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends; exit if that already happened."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("the supervisor has gone")


def confine_memory(model_bytes: int, request_bytes_max: int) -> None:
    """Allow the address space to grow by the model's budget, counted from now."""
    usual = request_bytes_max <= BODY_BYTES_MAX
    serving_bytes = SERVING_BYTES if usual else request_bytes_max * SERVING_BYTES_PER_REQUEST_BYTE
    limit = address_space_bytes() + model_bytes + serving_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def confine_process(supervisor_tasks: int) -> None:
    """Leave no core, no growing file, no locked memory, few descriptors and few more threads.

    ``supervisor_tasks`` are the threads of the supervisor, which doesn't show them to a worker.
    """
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS_MAX),
        # Counted over all of the user's processes, so from what there is.
        (resource.RLIMIT_NPROC, _tasks_of_user() + supervisor_tasks + TASKS_MORE),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == _UNLIMITED else min(most, hard)
        resource.setrlimit(kind, (limit, limit))


def _tasks_of_user() -> int:
    """Threads of this user, as far as they are shown to it."""
    user, count = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # It has ended meanwhile.
                if entry.stat().st_uid == user:
                    count += sum(1 for _ in Path(entry.path, "task").iterdir())
    return count


def confine_cpu(seconds: float) -> None:
    """Be killed by SIGXCPU after this much more processor time."""
    soft = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, _UNLIMITED))


def lift_cpu() -> None:
    """End the limit of processor time, which is for starting up only."""
    resource.setrlimit(resource.RLIMIT_CPU, (_UNLIMITED, _UNLIMITED))


def rearm(seconds: float) -> None:
    """Be killed by SIGALRM unless this is called again in time: works while the GIL is held."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def address_space_bytes() -> int:
    """Address space that this process uses."""
    return _status("VmSize:")


def address_space_peak_bytes() -> int:
    """The most that it has ever used."""
    return _status("VmPeak:")


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    return _status("VmRSS:")


def keep_status_open() -> None:
    """So that memory can be read where nothing can be opened any more."""
    if not _kept:
        _kept.append(os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC))


_kept: list[int] = []


def _status(key: str) -> int:
    text = _kept_status() if _kept else Path("/proc/self/status").read_bytes()
    for line in text.splitlines():
        if line.startswith(key.encode()):
            return int(line.split()[1]) * 1024
    return 0


def _kept_status() -> bytes:
    return os.pread(_kept[0], STATUS_BYTES_MAX, 0)
