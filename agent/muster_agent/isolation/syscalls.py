"""Numbers of the system calls that the filters name, by architecture.

Sources: ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h`` of
Linux. A call that an architecture doesn't have is missing there.
"""

from typing import NamedTuple

_X86_64 = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "readv": 19, "writev": 20, "access": 21,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "setitimer": 38, "getpid": 39,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockname": 51,
    "setsockopt": 54, "getsockopt": 55, "clone": 56, "exit": 60, "uname": 63, "fcntl": 72,
    "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "getuid": 102,
    "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
    "getpriority": 140, "setpriority": 141, "sched_getparam": 143, "sched_setscheduler": 144,
    "sched_getscheduler": 145, "prctl": 157, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232,
    "epoll_ctl": 233, "tgkill": 234, "openat": 257, "newfstatat": 262, "readlinkat": 267,
    "faccessat": 269, "ppoll": 271, "set_robust_list": 273, "epoll_pwait": 281, "accept4": 288,
    "epoll_create1": 291, "prlimit64": 302, "getcpu": 309, "seccomp": 317, "getrandom": 318,
    "membarrier": 324, "statx": 332, "rseq": 334, "clone3": 435, "faccessat2": 439,
}  # fmt: skip
_AARCH64 = {
    "getcwd": 17, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "fcntl": 25,
    "ioctl": 29, "faccessat": 48, "openat": 56, "close": 57, "getdents64": 61, "lseek": 62,
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "ppoll": 73,
    "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
    "set_robust_list": 99, "nanosleep": 101, "setitimer": 103, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "sched_setscheduler": 119,
    "sched_getscheduler": 120, "sched_getparam": 121, "sched_getaffinity": 123, "sched_yield": 124,
    "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "setpriority": 140, "getpriority": 141,
    "uname": 160, "getrusage": 165, "prctl": 167, "getcpu": 168, "gettimeofday": 169,
    "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "gettid": 178, "sysinfo": 179, "getsockname": 204, "sendto": 206, "recvfrom": 207,
    "setsockopt": 208, "getsockopt": 209, "shutdown": 210, "sendmsg": 211, "recvmsg": 212,
    "brk": 214, "munmap": 215, "mremap": 216, "clone": 220, "mmap": 222, "mprotect": 226,
    "madvise": 233, "accept4": 242, "prlimit64": 261, "seccomp": 277, "getrandom": 278,
    "membarrier": 283, "statx": 291, "rseq": 293, "clone3": 435, "faccessat2": 439,
}  # fmt: skip


class Architecture(NamedTuple):
    """What a filter must know of a processor."""

    machine: str
    """As ``uname -m`` says it."""
    audit: int
    """``AUDIT_ARCH_*``, which the kernel puts beside each call."""
    numbers: dict[str, int]
    other_abi_from: int | None = None
    """Call numbers from here on belong to another ABI of the same architecture (x32)."""


X86_64 = Architecture("x86_64", 0xC000003E, _X86_64, 0x4000_0000)
AARCH64 = Architecture("aarch64", 0xC00000B7, _AARCH64)
ARCHITECTURES = {each.machine: each for each in (X86_64, AARCH64)}
