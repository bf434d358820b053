"""Backup and restore: one file with all that a hub can't make anew.

The database is copied first, as one consistent state; what is copied later (catalogue, chunks) only
ever grows, so that nothing the database names can be missing. The broker's directory is left out:
the hub makes it anew and publishes everything again. The file ends with the digest of every part:
a file cut short, or changed, is refused as a whole.

A restored hub has forgotten what it promised devices since. It begins a new director epoch, so that
its directives count whatever generation devices have seen, and its catalogue goes on above any
version they may have seen.
"""

import hashlib
import io
import os
import secrets
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import msgspec

from muster_hub.audit import log
from muster_hub.errors import ConfigError
from muster_hub.settings import config
from muster_hub.settings.config import HubConfig
from muster_hub.signing.catalogue import VERSION_LEAP_MAX, Catalogue, SigningPlan
from muster_hub.signing.keys import Keyring
from muster_hub.storage import migrate
from muster_hub.storage.files import flush_directory, is_free, whole_directory
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store

FORMAT = 1
CONTENTS = "backup.json"
CONTENTS_BYTES_MAX = 64 << 20
DATABASE = "hub.db"
PARTS = (config.FILE, "ca.pem", "operator.toml", "keys", "tuf", "blobs")
LEAP_LEAST = 1000
LEFT_OUT = frozenset({"keys/http"})
"""Made anew at every start."""
BLOCK_BYTES = 1 << 20


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The last member of a backup."""

    format: int
    created: float
    hub_version: str
    database: bool
    """False: the database is a server's, and has a backup of its own."""
    files: dict[str, str]
    """SHA-256 by path."""


@dataclass(frozen=True)
class Restored:
    """A hub that was put back, and what must be signed before devices follow it."""

    config: HubConfig
    contents: Contents
    to_sign: SigningPlan
    """What the new director epoch waits for, in words, when its keys are kept elsewhere."""


def backup(settings: HubConfig, file: Path, now: float) -> Contents:
    """Write a backup of a hub, which may be running. Raises ConfigError when the file exists."""
    if file.exists():
        raise ConfigError(f"{file} exists: a backup never overwrites anything")
    own_database = not settings.database
    building = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:  # noqa: PTH123 - from a descriptor
            digests = {}
            if own_database:
                with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
                    copy = _copy_database(settings.data / DATABASE, Path(scratch) / DATABASE)
                    digests[DATABASE] = _add(archive, copy, DATABASE)
            for path in _paths(settings.data):
                name = path.relative_to(settings.data).as_posix()
                digests[name] = _add(archive, path, name)
            contents = Contents(
                format=FORMAT,
                created=now,
                hub_version=version("muster-edge"),
                database=own_database,
                files=digests,
            )
            _add_bytes(archive, CONTENTS, msgspec.json.encode(contents))
            archive.close()
            out.flush()
            os.fsync(out.fileno())
        building.rename(file)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        raise ConfigError(f"the backup {file} can't be written: {error}") from None
    finally:
        building.unlink(missing_ok=True)
    flush_directory(file.parent)
    return contents


def restore(file: Path, data: Path) -> Restored:
    """Make the hub of a backup anew in ``data``, which must be missing or empty.

    It is there whole or not at all. Raises ConfigError.
    """
    data = data.resolve()
    if not is_free(data):
        raise ConfigError(f"{data} is not empty: a hub is restored into a new directory")
    try:
        with whole_directory(data, last=config.FILE) as building:
            contents = _unpack(file, building)
            to_sign = _begin_anew(building, contents)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{file} can't be restored to {data}: {error}") from None
    return Restored(config.load(data), contents, to_sign)


def _begin_anew(directory: Path, contents: Contents) -> SigningPlan:
    """Bring the database up to date, begin a new director epoch, and say so in the audit log."""
    settings = config.load(directory)
    now = time.time()
    store = Store(settings.database_url, Sealing(settings.keys))
    try:
        migrate.upgrade(store)
        catalogue = Catalogue(settings.tuf, Keyring(settings.keys))
        _leap(catalogue, contents.created, now)
        plan = catalogue.new_epoch(now)
        with store.write() as session:
            log.append(
                session,
                actor="hub",
                action="hub.restore",
                subject=settings.url,
                now=now,
                backup_of=contents.created,
                to_sign=plan,
            )
        waiting = catalogue.pending()
    finally:
        store.close()
    return {role: words for role, words in plan.items() if role in waiting}


def _leap(catalogue: Catalogue, created: float, now: float) -> None:
    """Go on above any version that was published since the backup.

    A version that devices hold already, with other content, would be no news to them. Minutes since
    the backup make two restores of one backup differ.
    """
    leap = min(LEAP_LEAST + int(max(now - created, 0.0) / 60), VERSION_LEAP_MAX)
    versions = {}
    for name, data in catalogue.files_to_publish().items():
        role = name.removesuffix(".json").rpartition(".")[2]
        versions[role] = int(msgspec.json.decode(data)["signed"]["version"]) + leap
    catalogue.continue_from(versions, now)


def _copy_database(source: Path, target: Path) -> Path:
    """One consistent state of a database that may be in use."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    return target


def _paths(data: Path) -> Iterator[Path]:
    """Files to keep. The catalogue's timestamp comes before what it names, which only grows."""
    for part in PARTS:
        top = data / part
        if top.is_file():
            yield top
            continue
        found = [
            path
            for path in top.rglob("*")
            if path.is_file()
            and not path.name.startswith(".")
            and not any(path.is_relative_to(data / item) for item in LEFT_OUT)
        ]
        yield from sorted(found, key=lambda path: (path.name != "timestamp.json", path))


def _add(archive: tarfile.TarFile, path: Path, name: str) -> str:
    """Add a file as it is now; its SHA-256."""
    with path.open("rb") as file:
        member = archive.gettarinfo(arcname=name, fileobj=file)
        reader = _Digesting(file, member.size)
        archive.addfile(member, reader)
        return reader.digest.hexdigest()


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


class _Digesting:
    """Reads at most ``left`` bytes, hashing what passes: a file that grows meanwhile is cut."""

    def __init__(self, file: io.BufferedReader, left: int) -> None:
        self._file = file
        self._left = left
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self.digest.update(data)
        return data


def _unpack(file: Path, directory: Path) -> Contents:
    """Write every member below ``directory`` and check it against the contents; ConfigError."""
    digests: dict[str, str] = {}
    encoded: bytes | None = None
    try:
        with tarfile.open(file, mode="r:") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if not member.isfile() or content is None or encoded is not None:
                    raise ConfigError(f"{file} is not a backup: {member.name[:80]!r} in it")
                if member.name == CONTENTS:
                    encoded = content.read(CONTENTS_BYTES_MAX)
                    continue
                digests[member.name] = _write(directory, member, content)
    except tarfile.TarError as error:
        raise ConfigError(f"{file} is not a backup, or was cut short: {error}") from None
    if encoded is None:
        raise ConfigError(f"{file} was cut short: its list of contents is missing")
    try:
        contents = msgspec.json.decode(encoded, type=Contents)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {CONTENTS}: {error}") from None
    if contents.format != FORMAT:
        raise ConfigError(f"{file} has the format {contents.format}; this hub reads {FORMAT}")
    for name in sorted(contents.files.keys() | digests.keys()):
        if contents.files.get(name) != digests.get(name):
            raise ConfigError(f"{file} was changed: {name!r} isn't what was backed up")
    return contents


def _write(directory: Path, member: tarfile.TarInfo, content: IO[bytes]) -> str:
    path = (directory / member.name).resolve()
    if not path.is_relative_to(directory.resolve()) or path.exists():
        raise ConfigError(f"not a backup: {member.name[:80]!r} leads outside")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, member.mode & 0o700)
    with open(descriptor, "wb") as out:  # noqa: PTH123 - from a descriptor
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
