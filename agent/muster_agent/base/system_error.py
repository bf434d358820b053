"""An error of the system, told as a refusal: whose fault it is, and which path. Pure.

What the device lacks for the moment is no fault of a bundle. It is tried again after a pause.
"""

import errno
import os

from muster_protocol.wire.errors import Refusal

_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_DEVICE = frozenset({
    errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EROFS,
    errno.ENODEV, errno.ENXIO,
})  # fmt: skip
"""Processes, descriptors or rights that are short, a device file or mount that is not as it was."""


def as_refusal(error: OSError, otherwise: Refusal) -> tuple[Refusal, str]:
    """The refusal, ``otherwise`` where the error may be the bundle's, and words with the path."""
    words = error.strerror or str(error)
    name = error.filename
    where = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    return _refusal(error.errno, otherwise), f"{where}: {words}" if where else words


def _refusal(number: int | None, otherwise: Refusal) -> Refusal:
    if number == errno.ENOMEM:
        return Refusal.NO_MEMORY
    if number in _SPACE:
        return Refusal.NO_SPACE
    return Refusal.DEVICE_FAULT if number in _DEVICE else otherwise
