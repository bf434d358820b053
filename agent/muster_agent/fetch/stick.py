"""A folder that somebody else filled, such as a USB stick's: read and written without trusting it.

Every step into it opens one component in the directory that is held open already, and follows no
link: what lies there can name nothing outside. Files are regular ones with one name, and read up to
a limit. A file system may be changed by hostile hardware between two looks, so nothing is asked of
a path twice: what was opened is what is looked at.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from muster_agent.storage.files import PART_SUFFIX
from muster_protocol.wire.errors import MusterError, ProtocolError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting: opening a pipe would last until somebody writes to it."""
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class DropError(MusterError):
    """The folder is not one that can be imported, or there is no room for it."""


class Folder:
    """A directory held open. ``where`` is for people; it is never opened again.

    Methods raise DropError for what is refused, and OSError as the file system does.
    """

    def __init__(self, descriptor: int, where: Path) -> None:
        self._descriptor = descriptor
        self.where = where

    @classmethod
    def open(cls, path: Path) -> Self:
        """The directory that an operator named; none of its components may be a link."""
        start, *steps = path.parts if path.is_absolute() else (".", *path.parts)
        descriptor = os.open(start, _DIRECTORY)
        for place, step in enumerate(steps):
            try:
                inner = _enter(descriptor, step)
            except OSError as error:
                stopped_at = Path(start, *steps[: place + 1])
                raise DropError(
                    f"{str(stopped_at)!r}: {error.strerror}: name a folder by a path without links"
                ) from None
            finally:
                os.close(descriptor)
            descriptor = inner
        return cls(descriptor, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def folder(self, name: str, *, make: bool = False) -> "Folder | None":
        """A directory in this one; None when there is none and it isn't to be made."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self._descriptor)
        try:
            return Folder(_enter(self._descriptor, name), self.where / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(name, f"{error.strerror}: not a directory of its own") from None

    def names(self, most: int, check: Callable[[str], str]) -> list[str]:
        """What lies in it, sorted: at most ``most`` names, each of which ``check`` lets pass."""
        found: list[str] = []
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                try:
                    check(entry.name)
                except ProtocolError as error:
                    raise self._refused(entry.name, str(error)) from None
                found.append(entry.name)
                if len(found) > most:
                    raise DropError(f"{str(self.where)!r}: more than {most} files")
        return sorted(found)

    def size(self, name: str, most: int) -> int:
        """The bytes of a regular file."""
        descriptor, size = self._open(name, most)
        os.close(descriptor)
        return size

    def read(self, name: str, most: int) -> bytes:
        """A regular file of at most ``most`` bytes."""
        descriptor, size = self._open(name, most)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(size + 1)
        if len(data) != size:
            raise self._refused(name, "it changed while it was read")
        return data

    def has(self, name: str) -> bool:
        """Whether anything has this name, a link that leads nowhere included."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, whole, in place of whatever had its name; a link is replaced itself."""
        part = name + PART_SUFFIX
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=self._descriptor)
        descriptor = os.open(part, _NEW_FILE, 0o644, dir_fd=self._descriptor)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        os.fsync(self._descriptor)

    def _open(self, name: str, most: int) -> tuple[int, int]:
        """A descriptor of a regular file, and its size in bytes."""
        try:
            descriptor = os.open(name, _FILE, dir_fd=self._descriptor)
        except OSError as error:
            raise self._refused(name, f"{error.strerror}: not a regular file") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            fault = "not a regular file"
        elif found.st_nlink > 1:
            fault = "a file with several names: copy the folder anew"
        elif found.st_size > most:
            fault = f"larger than the {most} bytes that it may have"
        else:
            return descriptor, found.st_size
        os.close(descriptor)
        raise self._refused(name, fault)

    def _refused(self, name: str, why: str) -> DropError:
        return DropError(f"{str(self.where / name)!r}: {why}")


def _enter(directory: int, name: str) -> int:
    return os.open(name, _DIRECTORY, dir_fd=directory)
