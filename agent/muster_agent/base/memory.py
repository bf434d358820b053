"""Memory that this process holds without need, given back to the system."""

import ctypes

_LIBC = ctypes.CDLL(None)


def give_back() -> None:
    """Let the allocator give back what is free between what is used.

    Starting and updating take megabytes for moments. The C library keeps them for the next time,
    which on a small device is memory that models don't get. Other C libraries than glibc need no
    telling.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
