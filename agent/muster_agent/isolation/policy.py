"""Which system calls a worker may make while it loads a model, and while it serves. Pure.

Filters of the kernel add up: what loading forbids, serving can't allow again. What is here was
found by watching both runtimes load and serve; everything else ends with EPERM.
"""

import errno

from muster_agent.isolation.bpf import Check, Rule

_ANY = Rule()
_EXEC = 0x4
_INT = 0xFFFF_FFFF
_POINTER = 0xFFFF_FFFF_FFFF_FFFF
_NO_EXEC = Rule(((Check(2, _EXEC, 0),),))
"""Of mmap and mprotect: memory that a model wrote never becomes code, and no file does."""

_OPEN_FOR_MORE_THAN_READING = 0x3 | 0x40 | 0x200 | 0x400 | 0x40_0000
"""O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND and the bit of O_TMPFILE."""
_CLONE_THREAD, _CLONE_NAMESPACES = 0x1_0000, 0x7E02_0000
_SEND_FLAGS = 0x4000 | 0x40
"""MSG_NOSIGNAL and MSG_DONTWAIT; MSG_FASTOPEN would connect."""
_PRIO_PROCESS, _SCHED_IDLE = 0, 5
_SET_MODE_FILTER, _TSYNC = 1, 1
_PR_SET_NAME, _PR_SET_SECCOMP = 15, 22


def _any_of(argument: int, *values: int) -> Rule:
    return Rule(tuple((Check(argument, _INT, value),) for value in values))


def _common(pid: int) -> dict[str, Rule]:
    """What both stages need, the most frequent first."""
    free = (
        "futex read epoll_wait epoll_pwait recvfrom clock_gettime write recvmsg accept4 epoll_ctl "
        "close getpid gettid getppid getuid geteuid getgid getegid brk munmap mremap madvise "
        "pread64 readv writev lseek fstat setitimer sched_yield sched_getaffinity sched_getparam "
        "sched_getscheduler getpriority getsockname getsockopt epoll_create1 poll ppoll "
        "nanosleep clock_nanosleep clock_getres gettimeofday time getrandom getrusage getcpu "
        "sysinfo uname membarrier rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack "
        "restart_syscall set_robust_list rseq exit exit_group"
    )
    return dict.fromkeys(free.split(), _ANY) | {
        "sendto": Rule(((Check(3, _INT & ~_SEND_FLAGS, 0), Check(4, _POINTER, 0)),)),
        "sendmsg": Rule(((Check(2, _INT & ~_SEND_FLAGS, 0),),)),
        # SHUT_WR, for an answer's end; any other would end the slot's listener for every worker.
        "shutdown": _any_of(1, 1),
        "mmap": _NO_EXEC,
        "mprotect": _NO_EXEC,
        # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
        "fcntl": _any_of(1, 0, 1, 2, 3, 1030),
        # TCGETS, FIONREAD, FIONBIO, FIOCLEX
        "ioctl": _any_of(1, 0x5401, 0x541B, 0x5421, 0x5451),
        # IPPROTO_TCP, TCP_NODELAY
        "setsockopt": Rule(((Check(1, _INT, 6), Check(2, _INT, 1)),)),
        "setpriority": Rule(((Check(0, _INT, _PRIO_PROCESS), Check(1, _INT, 0)),)),
        "sched_setscheduler": Rule(((Check(0, _INT, 0), Check(1, _INT, _SCHED_IDLE)),)),
        "tgkill": _any_of(0, pid),
        "clone": Rule(((Check(0, _CLONE_THREAD | _CLONE_NAMESPACES, _CLONE_THREAD),),)),
        # The filter can't see what its structure says; glibc then takes clone.
        "clone3": Rule((), errno.ENOSYS),
    }


def _code(*, makes_code: bool) -> dict[str, Rule]:
    return dict.fromkeys(("mmap", "mprotect"), _ANY) if makes_code else {}


def loading(pid: int, *, opens_files: bool, makes_code: bool = False) -> dict[str, Rule]:
    """While a model is loaded and proved by process ``pid``.

    ``opens_files`` only where Landlock says which; elsewhere everything it needs is open already.
    ``makes_code`` for what compiles models: OpenVINO writes into the code that it runs.
    """
    rules = (
        _common(pid)
        | _code(makes_code=makes_code)
        | {
            "prlimit64": _any_of(0, 0),
            "prctl": _any_of(0, _PR_SET_NAME, _PR_SET_SECCOMP),
            # To narrow itself once more before it serves.
            "seccomp": Rule(((Check(0, _INT, _SET_MODE_FILTER), Check(1, _INT & ~_TSYNC, 0)),)),
        }
    )
    if opens_files:
        looks = (
            "newfstatat statx stat lstat access faccessat faccessat2 readlink readlinkat "
            "getdents64 getcwd"
        )
        rules |= dict.fromkeys(looks.split(), _ANY)
        rules["openat"] = Rule(((Check(2, _OPEN_FOR_MORE_THAN_READING, 0),),))
    return rules


def serving(pid: int, *, makes_code: bool = False) -> dict[str, Rule]:
    """From then on: what is open stays open, and nothing new is opened."""
    return _common(pid) | _code(makes_code=makes_code) | {"prctl": _any_of(0, _PR_SET_NAME)}
