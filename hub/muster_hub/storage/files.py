"""The hub's one durable write: a file is there whole, or not at all, also after a power cut."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUILDING = ".new"
"""In a directory that is being filled: what becomes its content."""


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write, flush to disk, rename into place, flush the directory. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Make names in a directory durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_directory(path: Path) -> Path:
    """A directory that only this user can read; made when missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def is_free(path: Path) -> bool:
    """Whether ``whole_directory`` may fill it: it is missing, empty, or was never finished."""
    if not path.exists():
        return True
    return path.is_dir() and all(entry.name == BUILDING for entry in path.iterdir())


@contextmanager
def whole_directory(path: Path, last: str) -> Iterator[Path]:
    """A directory to fill, whose content is at ``path`` once the block ends well; else nothing is.

    A directory that is there stays the one it is, because its parent may belong to another user, or
    it may be a mount: entries are moved into it, ``last`` after the others, so that what lacks it
    is known not to be whole. ``path`` must be free. Raises OSError.
    """
    there = path.exists()
    building = path / BUILDING if there else path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        make_private_directory(building)
        yield building
        if there:
            path.chmod(0o700)
            entries = sorted(building.iterdir(), key=lambda entry: entry.name == last)
            for entry in entries:
                entry.rename(path / entry.name)
            flush_directory(path)
        else:
            building.rename(path)
            flush_directory(path.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
