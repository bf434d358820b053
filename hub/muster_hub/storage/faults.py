"""What an error of the database means: one that passes, a full disk, or data it can't hold.

A transaction that met what passes may be tried again. One that holds data to which the database,
the driver or the code itself says no will never succeed, however often it is tried.
"""

import errno
import sqlite3

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
POSTGRES_OF_DATA = ("22", "23", "54")
"""SQLSTATE classes: data exception, integrity violation, program limit exceeded."""
POSTGRES_DISK_FULL = "53100"
SQLITE_OF_DATA = frozenset(
    {
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
    }
)


def passes(error: BaseException) -> bool:
    """Whether trying again may help: locks, lost connections, full disks, missing tables."""
    if isinstance(error, DataError | IntegrityError):
        return False
    if isinstance(error, DBAPIError):
        return not _of_data(error.orig)
    # Whatever else is raised comes of what was to be written: no driver reports a lock so.
    return isinstance(error, OSError | MemoryError)


def disk_is_full(error: BaseException) -> bool:
    """Whether there is no room left, at the database or in a file."""
    if isinstance(error, OSError):
        return error.errno in FULL_ERRNOS
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (
        getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        or getattr(cause, "sqlstate", None) == POSTGRES_DISK_FULL
    )


def _of_data(cause: BaseException | None) -> bool:
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in POSTGRES_OF_DATA
    code = getattr(cause, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in SQLITE_OF_DATA
