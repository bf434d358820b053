"""The system calls behind the isolation, by ctypes; the only module that makes them."""

import contextlib
import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from muster_agent.isolation import bpf, landlock, syscalls
from muster_protocol.wire.errors import MusterError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture."""
_RULESET_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_MODE_FILTER, _TSYNC = 2, 1
_SET_MODE_FILTER = 1
_libc = ctypes.CDLL(None, use_errno=True)

Reach = Literal["process", "thread", ""]


class IsolationError(MusterError):
    """The kernel would not restrict this process."""


def architecture() -> syscalls.Architecture | None:
    """None for a processor whose call numbers are not known here."""
    return syscalls.ARCHITECTURES.get(platform.machine())


def landlock_abi() -> int:
    """0 where the kernel has none, or has it switched off."""
    return max(_syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION), 0)


def seccomp_reach() -> Reach:
    """Whether a filter can be put on all threads at once, on the caller alone, or not at all."""
    known = architecture()
    if known is None:
        return ""
    # A filter at address zero: EFAULT says that the rest would have been accepted.
    _syscall(known.numbers["seccomp"], _SET_MODE_FILTER, _TSYNC, None)
    if ctypes.get_errno() == errno.EFAULT:
        return "process"
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    return "thread" if ctypes.get_errno() == errno.EFAULT else ""


def hide() -> None:
    """Let no process of the same user read this one's memory or trace it."""
    _require(_prctl(_PR_SET_DUMPABLE, 0), "prctl(PR_SET_DUMPABLE)")


def give_up_privileges() -> None:
    """No program that this process might start gets more rights than it has; for good."""
    _require(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl(PR_SET_NO_NEW_PRIVS)")


def restrict_files(abi: int, readable: Iterable[Path]) -> None:
    """Let the calling thread, and those it starts, read these paths and nothing else; for good."""
    attributes = landlock.attributes(abi)
    ruleset = _require(
        _syscall(_CREATE_RULESET, attributes, len(attributes), 0), "landlock_create_ruleset"
    )
    try:
        for path in readable:
            with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                _allow(ruleset, path)
        _require(_syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = landlock.rights(directory=path.is_dir())
        beneath = struct.pack("=Qi", rights, descriptor)
        _require(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, beneath, 0), "landlock_add_rule")
    finally:
        os.close(descriptor)


def filter_calls(instructions: list[bpf.Instruction], *, every_thread: bool) -> None:
    """Put a filter on this thread, or on all of the process, for good."""
    known = architecture()
    assert known is not None, "seccomp_reach() says so beforehand"
    code = ctypes.create_string_buffer(bpf.encode(instructions))
    # struct sock_fprog: a length, and after padding the address
    described = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    if every_thread:
        number = known.numbers["seccomp"]
        _require(_syscall(number, _SET_MODE_FILTER, _TSYNC, described), "seccomp")
    else:
        _require(_prctl(_PR_SET_SECCOMP, _MODE_FILTER, described), "prctl(PR_SET_SECCOMP)")


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    ctypes.set_errno(0)
    # As longs: ctypes would hand on 32 bits of an int, and rubbish above them.
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *wide))


def _prctl(option: int, value: int, more: int | bytes = 0) -> int:
    ctypes.set_errno(0)
    last = ctypes.c_ulong(more) if isinstance(more, int) else more
    zero = ctypes.c_ulong(0)
    return int(_libc.prctl(option, ctypes.c_ulong(value), last, zero, zero))


def _require(result: int, what: str) -> int:
    if result < 0:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")
    if result > 0 and what == "seccomp":
        raise IsolationError(f"{what}: thread {result} can't be restricted")
    return result
