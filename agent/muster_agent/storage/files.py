"""The one durable way to put something on disk.

A file appears under its name only when it is complete: written beside its place, fsynced, renamed,
and the directory fsynced, so that a power cut leaves the old content or the new, never a mixture.
Many small files share their syncs. Nothing else in the agent writes a file that must survive.
"""

import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PART_SUFFIX = ".part"
"""Names that end so are unfinished and may be removed at any time."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class DurableWriter:
    """Write a file in pieces; it takes its name when ``commit`` returns, or never does.

    Used as a context manager: leaving the block without ``commit`` removes what was written.
    Raises OSError as the file system does (ENOSPC among them).
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        self._path = path
        self._part = _part(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._part, flags, mode)
        self._committed = False

    def write(self, data: bytes | memoryview) -> None:
        """Append all of ``data``; raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self) -> None:
        """Sync the file and give it its name; it exists whole from then on, or not at all."""
        os.fsync(self._descriptor)
        self._part.replace(self._path)
        self._committed = True
        sync_directory(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        if not self._committed:
            self._part.unlink(missing_ok=True)


class DurableBatch:
    """Many files whose names appear together, when ``commit`` returns: two syncs for all of them.

    Syncing each alone would wait for the disk twice a file, which takes ten times as long as
    writing it. Both syncs are of the whole file system, so what other programs have written there
    is waited for, too: keep batches small.
    """

    def __init__(self, directory: Path) -> None:
        """``directory`` is on the file system of all of them."""
        self.size_bytes = 0
        """Written, and not yet safe."""
        self._directory = directory
        self._paths: list[Path] = []

    def add(self, path: Path, data: bytes | memoryview) -> None:
        """Write a file beside its place. Raises OSError; what was added before stays."""
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(_part(path), flags, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            _part(path).unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self._paths.append(path)
        self.size_bytes += len(data)

    def commit(self) -> None:
        """Sync the files and give them their names. Raises OSError: then none may have got it."""
        paths, self._paths, self.size_bytes = self._paths, [], 0
        if not paths:
            return
        try:
            sync_file_system(self._directory)
            for path in paths:
                _part(path).replace(path)
        except OSError:
            for path in paths:
                _part(path).unlink(missing_ok=True)
            raise
        sync_file_system(self._directory)


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART_SUFFIX)


def write_durably(path: Path, data: bytes | memoryview, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``; after return it survives a power cut. Raises OSError."""
    with DurableWriter(path, mode=mode) as writer:
        writer.write(data)
        writer.commit()


def fill_durably(directory: Path, files: Mapping[str, bytes]) -> None:
    """Fill a directory that nobody reads yet; for ``rename_durably`` afterwards, which syncs the
    directory itself. Keys are paths relative to it, at most one folder deep. Raises OSError.
    """
    folders = {directory, *((directory / name).parent for name in files)}
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
    # All are written before the first is synced: a journal then commits them together.
    for name, data in files.items():
        (directory / name).write_bytes(data)
    for name in files:
        with (directory / name).open("rb") as opened:
            os.fsync(opened.fileno())
    for folder in sorted(folders - {directory}):
        sync_directory(folder)


def unlink_durably(path: Path) -> bool:
    """Remove a file for good; False when there was none. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def link_durably(link: Path, target: Path | str) -> None:
    """Point the symbolic link ``link`` at ``target`` in one step. Raises OSError."""
    part = _part(link)
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(link)
    sync_directory(link.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a finished file or directory whose content is already synced. Raises OSError."""
    sync_directory(source if source.is_dir() else source.parent)
    source.rename(target)
    sync_directory(target.parent)


def remove_durably(path: Path) -> None:
    """Delete a directory so that it never stands half empty under its name. Raises OSError.

    A power cut leaves it whole, gone, or as an unfinished one.
    """
    leaving = path.with_name(f"{path.name}.old{PART_SUFFIX}")
    if leaving.exists():
        shutil.rmtree(leaving)
    path.rename(leaving)
    sync_directory(path.parent)
    shutil.rmtree(leaving)


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Create ``path`` and its missing parents, each entry synced into its parent."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Make all that was written to the file system that ``path`` is on durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
