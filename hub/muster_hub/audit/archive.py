"""Take old rows out of the audit log into a file, leaving an anchor from which the rest goes on.

The file is on the disk, whole, before a row is deleted; rows and anchor change in one transaction.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlmodel import Session, col, delete, func, select

from muster_hub.audit import log
from muster_hub.errors import ConfigError, Conflict, Invalid
from muster_hub.storage.files import flush_directory
from muster_hub.storage.governance import AuditAnchor
from muster_hub.storage.models import Audit
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import Store
from muster_protocol.wire import audit
from muster_protocol.wire.audit import FORMAT, GENESIS, AuditBroken, Entry, Head, Key, Tail, inspect

KEPT_SECONDS_MIN = 184 * 86_400.0
"""Six months, the longest ones: nothing younger is archived."""
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Archived:
    """How many rows were moved, and what their file can be known by."""

    rows: int
    """In this archive."""
    latest: str
    file_sha256: str


def archive(
    store: Store, sealing: Sealing, file: Path, *, before: float, now: float, by: str, hub: str
) -> Archived:
    """Archive every row older than ``before``, up to the first that isn't.

    Raises Invalid for a time too late, ConfigError for a file that can't be written, AuditBroken
    when the log isn't whole (nothing is deleted then), Conflict when there is nothing to archive.
    """
    if before > now - KEPT_SECONDS_MIN:
        days = KEPT_SECONDS_MIN / 86_400
        raise Invalid(f"the last {days:.0f} days of the audit log stay: choose an earlier date")
    with store.read() as session:
        log.verify(session, sealing)
        held = log.anchor(session)
        last = _last_before(session, before)
    if last is None:
        raise Conflict("no row of the audit log is that old: nothing to archive")
    rows_before, previous = (0, GENESIS) if held is None else (held.rows, held.latest)
    head = Head(muster_audit=FORMAT, hub=hub, rows_before=rows_before, previous=previous)
    with store.read() as session:
        made = _write(file, head, _rows(session, last), log.codes(sealing))
    with store.write() as session:
        _prune(session, sealing, head, made, last, now=now, by=by)
    return made


def join(paths: Iterable[Path], archived: int, latest: str, key: Key | None = None) -> int:
    """``audit.join`` of archives as files; raises AuditBroken."""
    return audit.join([read(path, key) for path in paths], archived, latest)


def read(path: Path, key: Key | None = None) -> audit.Archive:
    """Check an archive from its first line to its last; raises AuditBroken saying where."""
    try:
        with path.open("rb") as file:
            return audit.read(str(path), file, key)
    except OSError as error:
        raise AuditBroken(f"{path}: {error.strerror}") from None


def _last_before(session: Session, before: float) -> int | None:
    """The last of the rows to go. Clocks jump: a row that is young keeps those after it."""
    young = session.exec(select(func.min(Audit.id)).where(col(Audit.at) >= before)).one()
    query = select(func.max(Audit.id))
    if young is not None:
        query = query.where(col(Audit.id) < young)
    return session.exec(query).one()


def _rows(session: Session, last: int) -> Iterator[Entry]:
    found = session.exec(log.in_order().where(col(Audit.id) <= last)).yield_per(BATCH_ROWS)
    for row in found:
        yield Entry(**row.model_dump())


def _write(file: Path, head: Head, rows: Iterator[Entry], key: Key) -> Archived:
    """Write the archive beside its place, check each row on its way, rename it when whole."""
    if file.exists():
        raise ConfigError(f"{file} exists: an archive never overwrites anything")
    building = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    digest = hashlib.sha256()
    try:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as out:  # noqa: PTH123 - from a descriptor

            def put(line: msgspec.Struct) -> None:
                data = msgspec.json.encode(line) + b"\n"
                digest.update(data)
                out.write(data)

            def putting() -> Iterator[Entry]:
                for row in rows:
                    put(row)
                    yield row

            put(head)
            found = inspect(putting(), head.previous, key)
            if found.fault:
                raise AuditBroken(found.fault)
            put(Tail(rows=found.rows, latest=found.latest))
            out.flush()
            os.fsync(out.fileno())
        building.rename(file)
        flush_directory(file.parent)
    except OSError as error:
        raise ConfigError(f"the archive {file} can't be written: {error}") from None
    finally:
        building.unlink(missing_ok=True)
    return Archived(found.rows, found.latest, digest.hexdigest())


def _prune(
    session: Session,
    sealing: Sealing,
    head: Head,
    made: Archived,
    last: int,
    *,
    now: float,
    by: str,
) -> None:
    """Delete what was archived, if it is still there and nobody else has archived meanwhile."""
    row = AuditAnchor(
        at=now,
        rows=head.rows_before + made.rows,
        previous=head.previous,
        latest=made.latest,
        file_sha256=made.file_sha256,
        seal=b"",
    )
    row.seal = log.anchor_seal(row, sealing)
    log.append(
        session,
        actor=by,
        action=log.ARCHIVED,
        subject="audit",
        now=now,
        rows=row.rows,
        latest=row.latest,
        file_sha256=row.file_sha256,
    )
    held = log.anchor(session)
    gone = session.exec(delete(Audit).where(col(Audit.id) <= last)).rowcount
    if gone != made.rows or (held.latest if held else GENESIS) != head.previous:
        raise Conflict("the audit log was archived by somebody else meanwhile: nothing was deleted")
    session.add(row)
