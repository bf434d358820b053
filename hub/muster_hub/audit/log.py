"""The audit log: who did what, each row sealed by a hash over itself and the row before.

Each row has a code over that hash by a key that isn't in the database; with which row that began
stands in a file beside the key. Cutting rows off the end can't be seen from within: keep the latest
hash elsewhere. Cutting rows off the beginning leaves a chain that begins with nothing, unless they
were archived: then an anchor says with which hash they ended, sealed with that key.
"""

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from muster_hub.errors import ConfigError
from muster_hub.storage.files import write_durably
from muster_hub.storage.governance import AuditAnchor
from muster_hub.storage.models import Audit
from muster_hub.storage.sealing import Sealing
from muster_hub.storage.store import SEALING, Store
from muster_protocol.wire.audit import GENESIS, AuditBroken, Chain, Key, inspect, seal

__all__ = [
    "GENESIS", "AuditBroken", "Chain", "Key", "append", "begin_keyed", "codes", "in_order",
    "inspect", "key", "seal", "verify",
]  # fmt: skip

FIRST_FILE = "audit-first"
"""Beside the sealing key: the hash of the first row that has a code."""
CODE = "audit row"
KEYED = "audit.key"
ARCHIVED = "audit.archive"
ANCHOR = "audit anchor"
_LOCK = 0x6D757374


def append(
    session: Session, *, actor: str, action: str, subject: str, now: float, **detail: Any
) -> None:
    """Add a row within the caller's ``store.write()``, so that act and record stand together.

    ``actor`` is ``token:<name>``, ``device:<id>`` or ``hub``; ``action`` like ``device.revoke``.
    Raises ConfigError for a session of a store that has no sealing key.
    """
    sealing: Sealing | None = session.info.get(SEALING)
    if sealing is None:
        raise ConfigError("the audit log can't be written without the hub's sealing key")
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = session.exec(select(Audit.hash).order_by(col(Audit.id).desc()).limit(1)).first()
    row = Audit(
        at=now,
        actor=actor,
        action=action,
        subject=subject,
        detail=detail,
        previous=last or GENESIS,
        hash="",
    )
    row.hash = seal(row)
    row.code = _code(sealing, row.hash)
    session.add(row)
    session.flush()


def begin_keyed(store: Store, sealing: Sealing, now: float) -> None:
    """Key a log from its next row on, once, and remember outside the database which that was.

    Any number of processes may do it at once, or die while they do.
    """
    path = sealing.directory / FIRST_FILE
    if path.exists():
        return
    first = select(Audit.hash).where(Audit.code != "").order_by(col(Audit.id)).limit(1)
    with store.write() as session:
        if session.exec(first).first() is None:
            append(session, actor="hub", action=KEYED, subject="audit", now=now)
        begun = session.exec(first).one()
    write_durably(path, f"{begun}\n".encode())


def key(sealing: Sealing, *, archived: bool = False) -> Key:
    """What this hub's log is checked with; ``archived``: not from its beginning. ConfigError."""
    return Key(codes(sealing).code, _first(sealing.directory), archived)


def codes(sealing: Sealing) -> Key:
    """What a part of this hub's log is checked with, wherever in it codes begin."""
    return Key(lambda digest: _code(sealing, digest))


def _code(sealing: Sealing, digest: str) -> str:
    return sealing.code(CODE, digest.encode())


def _first(directory: Path) -> str:
    path = directory / FIRST_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def in_order() -> SelectOfScalar[Audit]:
    """The query for every row, the first one first."""
    return select(Audit).order_by(col(Audit.id))


def anchor(session: Session) -> AuditAnchor | None:
    """Where the rows that are no longer here end."""
    return session.exec(select(AuditAnchor).order_by(col(AuditAnchor.rows).desc()).limit(1)).first()


def anchor_seal(row: AuditAnchor, sealing: Sealing) -> bytes:
    """A seal over an anchor, by a key that is not in the database."""
    return sealing.seal(ANCHOR, _sealed(row))


def check(session: Session, sealing: Sealing) -> Chain:
    """Follow the whole log, from its anchor when earlier rows were archived."""
    held = anchor(session)
    rows = session.exec(in_order()).yield_per(1000)
    if held is None:
        return inspect(rows, key=key(sealing))
    found = inspect(rows, held.latest, key(sealing, archived=True))
    fault = _forged(session, held, sealing) or found.fault
    if fault and (latest := anchor(session)) is not None and latest.rows != held.rows:
        return check(session, sealing)  # Rows were archived while we looked.
    return Chain(found.rows, found.latest, fault, held.rows, held.latest, found.keyed_from)


def verify(session: Session, sealing: Sealing) -> Chain:
    """The whole log as ``check`` finds it; raises AuditBroken naming the first row at fault."""
    found = check(session, sealing)
    if found.fault:
        raise AuditBroken(found.fault)
    return found


def _forged(session: Session, held: AuditAnchor, sealing: Sealing) -> str:
    """Why an anchor isn't what archiving wrote; empty when it is."""
    what = f"the anchor of {held.rows} archived rows"
    try:
        if sealing.open(ANCHOR, held.seal) != _sealed(held):
            return f"{what} was changed"
    except ConfigError:
        return f"{what} was forged, or sealed with another keys/sealing.key"
    logged = session.exec(
        select(Audit).where(Audit.action == ARCHIVED).order_by(col(Audit.id).desc()).limit(1)
    ).first()
    wanted = {"rows": held.rows, "latest": held.latest, "file_sha256": held.file_sha256}
    if logged is None or {name: logged.detail.get(name) for name in wanted} != wanted:
        return f"{what} is not the one that the log tells of"
    return ""


def _sealed(row: AuditAnchor) -> bytes:
    return msgspec.json.encode(
        [row.at, row.rows, row.previous, row.latest, row.file_sha256], order="deterministic"
    )
