"""What a kernel's Landlock can restrict, and which files a worker may read.

Source: ``Documentation/userspace-api/landlock.rst`` and ``linux/landlock.h``.

Pure.
"""

import struct
import sys
from pathlib import Path

READ_FILE, READ_DIRECTORY = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files an ABI knows; the fifth and later know 16."""
_NETWORK = 0b11
"""To bind and to connect TCP sockets, from the fourth ABI on."""
_SCOPES = 0b11
"""Abstract sockets and signals to processes outside, from the sixth on."""

_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
    "/dev/urandom", "/dev/null",
)  # fmt: skip
"""Without ``/proc/cpuinfo`` TFLite does not find the fast ways of a processor, and says nothing."""


def attributes(abi: int) -> bytes:
    """A ``struct landlock_ruleset_attr`` that handles, and so forbids, all that ``abi`` knows."""
    files = (1 << _FILE_RIGHTS.get(abi, 16)) - 1
    if abi < 4:
        return struct.pack("=Q", files)
    if abi < 6:
        return struct.pack("=QQ", files, _NETWORK)
    return struct.pack("=QQQ", files, _NETWORK, _SCOPES)


def rights(*, directory: bool) -> int:
    """What is given beneath a path: reading alone."""
    return READ_FILE | READ_DIRECTORY if directory else READ_FILE


def readable(own: tuple[Path, ...]) -> tuple[Path, ...]:
    """``own`` and what an interpreter and its runtimes read; not all of it exists everywhere."""
    interpreter = [Path(entry) for entry in sys.path if entry]
    interpreter.append(Path(sys.base_prefix) / "lib")
    return (*own, *interpreter, *map(Path, _SYSTEM))
