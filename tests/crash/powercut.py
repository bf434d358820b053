"""The disks that a power cut may leave, from what a traced story did.

A file's bytes are safe once the file was synced after they were written, a name once its directory
was synced after it changed, and all of that once the whole file system was. Nothing else is
promised: what is not safe yet may be lost, each piece for itself and in any order, and the last
write may be torn. A name that depends on another one that was lost (a rename of a file never
created) is lost with it. SQLite's shared-memory index is rebuilt after a reboot and left out.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crash.tracer import Call

SUBSETS = 2
"""Random mixtures of lost and kept tried after each call, besides the systematic ones."""
_PATH = re.compile(r'(?:(AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)"')
_FD = re.compile(r"^(\d+)<([^>]*)>")
Name = tuple[int, str]


@dataclass
class Inode:
    kind: str  # file, directory or link
    data: bytes = b""
    entries: dict[str, int] = field(default_factory=dict)


class Write(NamedTuple):
    inode: int
    offset: int
    data: bytes


class Resize(NamedTuple):
    inode: int
    size: int


class Enter(NamedTuple):
    directory: int
    name: str
    inode: int


class Remove(NamedTuple):
    directory: int
    name: str


class Move(NamedTuple):
    directory: int
    name: str
    target: str


class Sync(NamedTuple):
    inode: int


class SyncAll(NamedTuple):
    """Of the whole file system."""


Op = Write | Resize | Enter | Remove | Move | Sync | SyncAll
Change = Write | Resize | Enter | Remove | Move


def dependents(op: Change) -> int:
    """The inode whose sync makes ``op`` safe."""
    return op.directory if isinstance(op, Enter | Remove | Move) else op.inode


class Disk:
    """Files by inode; ``base`` is the directory that is watched."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.inodes: dict[int, Inode] = {}
        self.root = self._load(base)

    def _load(self, path: Path) -> int:
        if path.is_symlink():
            return self.new("link", bytes(path.readlink()))
        if path.is_file():
            return self.new("file", path.read_bytes())
        entries = {each.name: self._load(each) for each in sorted(path.iterdir())}
        number = self.new("directory")
        self.inodes[number].entries = entries
        return number

    def new(self, kind: str, data: bytes = b"") -> int:
        self.inodes[len(self.inodes)] = Inode(kind, data)
        return len(self.inodes) - 1

    def find(self, path: Path) -> tuple[int, str, int | None]:
        """Directory, name and inode of a path below the base; no link is followed."""
        *folders, name = path.relative_to(self.base).parts
        directory = self.root
        for folder in folders:
            directory = self.inodes[directory].entries[folder]
        return directory, name, self.inodes[directory].entries.get(name)

    def at(self, base: Path) -> "Disk":
        """The same disk, watched at another place."""
        made = self.copy()
        made.base = base
        return made

    def copy(self) -> "Disk":
        made = object.__new__(Disk)
        made.base, made.root = self.base, self.root
        made.inodes = {n: Inode(i.kind, i.data, dict(i.entries)) for n, i in self.inodes.items()}
        return made

    def do(self, op: Op) -> None:
        """Apply ``op``; one whose ground was lost does nothing."""
        match op:
            case Write(inode, offset, data):
                file = self.inodes[inode]
                before = file.data[:offset].ljust(offset, b"\0")
                file.data = before + data + file.data[offset + len(data) :]
            case Resize(inode, size):
                file = self.inodes[inode]
                file.data = file.data[:size].ljust(size, b"\0")
            case Enter(directory, name, inode):
                self.inodes[directory].entries[name] = inode
            case Remove(directory, name):
                self.inodes[directory].entries.pop(name, None)
            case Move(directory, name, target):
                entries = self.inodes[directory].entries
                if name in entries:
                    entries[target] = entries.pop(name)
            case Sync() | SyncAll():
                pass

    def key(self) -> int:
        """Equal for equal trees. Bytes remember their hash, so that unchanged ones cost nothing."""
        return hash(tuple((path, i.kind, len(i.data), hash(i.data)) for path, i in self.walk()))

    def walk(self, number: int | None = None, prefix: str = "") -> Iterator[tuple[str, Inode]]:
        for name, child in sorted(
            self.inodes[self.root if number is None else number].entries.items()
        ):
            inode = self.inodes[child]
            yield prefix + name, inode
            if inode.kind == "directory":
                yield from self.walk(child, f"{prefix}{name}/")

    def write(self, to: Path) -> None:
        """Make a real directory of it."""
        to.mkdir()
        for path, inode in self.walk():
            if inode.kind == "directory":
                (to / path).mkdir()
            elif inode.kind == "link":
                (to / path).symlink_to(inode.data.decode())
            else:
                (to / path).write_bytes(inode.data)


def operations(disk: Disk, calls: Iterable[Call]) -> Iterator[Op]:
    """What the calls did below the disk's base, which is brought up to date along the way."""
    reader = _Reader(disk)
    for call in calls:
        for op in reader.read(call):
            disk.do(op)
            yield op


class _Reader:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: dict[int, tuple[int, int]] = {}
        """Descriptor to (inode, position)."""

    def read(self, call: Call) -> Iterator[Op]:
        handler = getattr(self, f"_{call.name}", None)
        assert handler is not None, f"a call the model doesn't know: {call.name}"
        yield from handler(call) or ()

    def _paths(self, call: Call) -> list[Path]:
        found = []
        for _, base, text in _PATH.findall(call.arguments):
            found.append(_text(base) / _text(text) if base else _text(text))
        return found

    def _ours(self, path: Path) -> bool:
        return path.is_relative_to(self._disk.base) and not path.name.endswith("-shm")

    def _openat(self, call: Call) -> Iterator[Op]:
        (path,) = self._paths(call)
        if path == self._disk.base:
            self._open[call.result] = (self._disk.root, 0)
            return
        if not self._ours(path):
            return
        directory, name, inode = self._disk.find(path)
        if inode is None:
            inode = self._disk.new("file")
            yield Enter(directory, name, inode)
        elif "O_TRUNC" in call.arguments and self._disk.inodes[inode].data:
            yield Resize(inode, 0)
        self._open[call.result] = (inode, 0)

    def _close(self, call: Call) -> None:
        self._open.pop(int(call.arguments.split("<", 1)[0]), None)

    def _file(self, call: Call) -> tuple[int, int] | None:
        found = _FD.match(call.arguments)
        return self._open.get(int(found[1])) if found else None

    def _write(self, call: Call) -> Iterator[Op]:
        if (opened := self._file(call)) is not None:
            inode, position = opened
            data = _data(call)[: call.result]
            self._open[int(call.arguments.split("<", 1)[0])] = (inode, position + len(data))
            yield Write(inode, position, data)

    def _pwrite64(self, call: Call) -> Iterator[Op]:
        if (opened := self._file(call)) is not None:
            offset = int(call.arguments.rsplit(", ", 1)[1])
            yield Write(opened[0], offset, _data(call)[: call.result])

    def _ftruncate(self, call: Call) -> Iterator[Op]:
        if (opened := self._file(call)) is not None:
            yield Resize(opened[0], int(call.arguments.rsplit(", ", 1)[1]))

    def _fsync(self, call: Call) -> Iterator[Op]:
        if (opened := self._file(call)) is not None:
            yield Sync(opened[0])

    _fdatasync = _fsync

    def _syncfs(self, _call: Call) -> Iterator[Op]:
        yield SyncAll()

    def _rename(self, call: Call) -> Iterator[Op]:
        source, target = self._paths(call)
        if self._ours(source):
            directory, name, inode = self._disk.find(source)
            assert inode is not None
            assert source.parent == target.parent, "the model knows renames within a directory"
            yield Move(directory, name, target.name)

    def _symlink(self, call: Call) -> Iterator[Op]:
        content, path = (_text(text) for _, _, text in _PATH.findall(call.arguments))
        if self._ours(path):
            directory, name, _ = self._disk.find(path)
            yield Enter(directory, name, self._disk.new("link", bytes(content)))

    def _mkdir(self, call: Call) -> Iterator[Op]:
        (path,) = self._paths(call)
        if self._ours(path):
            directory, name, _ = self._disk.find(path)
            yield Enter(directory, name, self._disk.new("directory"))

    def _unlink(self, call: Call) -> Iterator[Op]:
        (path,) = self._paths(call)
        if self._ours(path):
            directory, name, inode = self._disk.find(path)
            assert inode is not None
            yield Remove(directory, name)

    _unlinkat = _rmdir = _unlink


def _text(escaped: str) -> Path:
    return Path(bytes.fromhex(escaped.replace("\\x", "")).decode())


def _data(call: Call) -> bytes:
    (text,) = re.findall(r'"([^"]*)"', call.arguments)
    return bytes.fromhex(text.replace("\\x", ""))


def cuts(start: Disk, calls: list[Call], *, every: int = 1) -> Iterator[tuple[str, Disk]]:
    """Each disk a cut may leave, once, with words for how it came about.

    ``every`` looks only after each n-th change.
    """
    now = start.copy()
    ops = list(operations(now, calls))
    safe, pending = start.copy(), list[Change]()
    for inode in list(now.inodes.values())[len(safe.inodes) :]:
        safe.new(inode.kind, inode.data if inode.kind == "link" else b"")
    seen: set[int] = set()
    for number, op in enumerate(ops):
        if isinstance(op, Sync | SyncAll):
            every_inode = isinstance(op, SyncAll)
            for each in [p for p in pending if every_inode or dependents(p) == op.inode]:
                safe.do(each)
                pending.remove(each)
        else:
            pending.append(op)
        if number % every:
            continue
        for how, kept in _choices(pending, random.Random(number)):
            disk = safe.copy()
            for each in kept:
                disk.do(each)
            if (key := disk.key()) not in seen:
                seen.add(key)
                yield f"after {number} ({type(op).__name__}), {how}", disk


def _choices(pending: list[Change], rng: random.Random) -> Iterator[tuple[str, list[Change]]]:
    yield "all kept", pending
    if not pending:
        return
    yield "all lost", []
    names = [p for p in pending if isinstance(p, Enter | Remove | Move)]
    contents = [p for p in pending if not isinstance(p, Enter | Remove | Move)]
    yield "names lost", contents
    yield "contents lost", names
    for position, each in enumerate(pending):
        what = f"{type(each).__name__} {position}"
        yield f"only {what} lost", pending[:position] + pending[position + 1 :]
        yield f"only {what} kept", [each]
    if isinstance(last := pending[-1], Write):
        torn = Write(last.inode, last.offset, last.data[: len(last.data) // 2])
        yield "the last write torn", [*pending[:-1], torn]
    for _ in range(SUBSETS):
        yield "a mixture", [p for p in pending if rng.random() < 0.5]
