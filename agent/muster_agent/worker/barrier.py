"""Memory ordering across processes, paid by the reader instead of by the hot path.

A writer stores a row and then the count; on processors that reorder stores (aarch64) a reader may
see the count first. membarrier(2) on the reader's side makes every registered process pass a full
barrier, which orders its earlier stores; the writer itself pays nothing per row.
"""

import ctypes
import platform

_NUMBERS = {"x86_64": 324, "aarch64": 283}
_GLOBAL = 1 << 0
_GLOBAL_EXPEDITED = 1 << 1
_REGISTER_GLOBAL_EXPEDITED = 1 << 2


def register() -> bool:
    """Called once by a process that writes; False where the kernel has no membarrier."""
    return _membarrier(_REGISTER_GLOBAL_EXPEDITED)


def synchronise() -> bool:
    """Called by a reader between looking at the count and at the rows."""
    return _membarrier(_GLOBAL_EXPEDITED) or _membarrier(_GLOBAL)


def _membarrier(command: int) -> bool:
    number = _NUMBERS.get(platform.machine())
    return number is not None and _libc.syscall(number, command, 0, 0) == 0


_libc = ctypes.CDLL(None, use_errno=True)
