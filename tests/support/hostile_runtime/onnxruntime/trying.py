"""How an attempt is made and what it came to; ``attempts`` gathers them all."""

import ctypes
import errno
import os
import platform
import socket
import stat
from collections.abc import Callable
from typing import Any

Targets = dict[str, Any]
REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
SUCCEEDED = 1.0
ALL: list[Callable[[Targets], object]] = []
"x".encode("idna")  # Imported now: addresses need it.
_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    "openat2": (437, 437), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425), "memfd_create": (319, 279), "unshare": (272, 97),
    "setns": (308, 268), "clone": (56, 220), "execveat": (322, 281), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "prctl": (157, 167), "personality": (135, 92),
    "prlimit64": (302, 261), "add_key": (248, 217), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "shmget": (29, 194),
    "mq_open": (240, 180), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "clock_settime": (227, 112), "seccomp": (317, 277), "fallocate": (285, 47),
    "mount": (165, 40), "capset": (126, 91), "setxattr": (188, 5), "sendmmsg": (307, 269),
    "pkey_mprotect": (329, 288), "timer_create": (222, 107), "sched_setscheduler": (144, 119),
}  # fmt: skip
"""By x86-64 and aarch64."""
_AT = 1 if platform.machine() == "aarch64" else 0


def outcome(attempt: Callable[[Targets], object], targets: Targets) -> float:
    """SUCCEEDED, or minus the error with which it was refused."""
    try:
        attempt(targets)
    except OSError as error:
        return SUCCEEDED if error.errno not in REFUSED else -float(error.errno)
    return SUCCEEDED


def attempt(function: Callable[[Targets], object]) -> Callable[[Targets], object]:
    ALL.append(function)
    return function


def call(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(_NUMBERS[name][_AT]), *wide))
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)


def descriptor_of(kind: Callable[[int], bool]) -> int:
    """One that the worker holds, found as a model would: by trying them all."""
    for descriptor in range(256):
        try:
            if kind(descriptor):
                return descriptor
        except OSError:
            continue
    raise OSError(errno.ENOSYS, "it holds no such descriptor")


def is_listener(descriptor: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=descriptor) as end:
        try:
            listens = end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            return listens and end.family == socket.AF_INET
        finally:
            end.detach()


def ring(targets: Targets) -> int:
    return descriptor_of(lambda each: os.fstat(each).st_ino == targets["ring_inode"])
