"""The audit log: who did what, each row sealed by a hash over itself and the row before.

Cutting rows off the end can't be seen from within: keep the latest hash elsewhere. Cutting rows off
the beginning leaves a chain that begins with nothing, unless they were archived: then an anchor
says with which hash they ended, sealed with a key that isn't in the database.
"""

from typing import Any

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from muster_hub.audit.chain import GENESIS, AuditBroken, Chain, inspect, seal
from muster_hub.errors import ConfigError
from muster_hub.storage.governance import AuditAnchor
from muster_hub.storage.models import Audit
from muster_hub.storage.sealing import Sealing

__all__ = ["GENESIS", "AuditBroken", "Chain", "append", "in_order", "inspect", "seal", "verify"]

ARCHIVED = "audit.archive"
ANCHOR = "audit anchor"
_LOCK = 0x6D757374


def append(
    session: Session, *, actor: str, action: str, subject: str, now: float, **detail: Any
) -> None:
    """Add a row within the caller's ``store.write()``, so that act and record stand together.

    ``actor`` is ``token:<name>``, ``device:<id>`` or ``hub``; ``action`` like ``device.revoke``.
    """
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
    session.add(row)
    session.flush()


def in_order() -> SelectOfScalar[Audit]:
    """The query for every row, the first one first."""
    return select(Audit).order_by(col(Audit.id))


def anchor(session: Session) -> AuditAnchor | None:
    """Where the rows that are no longer here end."""
    return session.exec(select(AuditAnchor).order_by(col(AuditAnchor.rows).desc()).limit(1)).first()


def anchor_seal(row: AuditAnchor, sealing: Sealing) -> bytes:
    return sealing.seal(ANCHOR, _sealed(row))


def check(session: Session, sealing: Sealing) -> Chain:
    """Follow the whole log, from its anchor when earlier rows were archived."""
    held = anchor(session)
    rows = session.exec(in_order()).yield_per(1000)
    if held is None:
        return inspect(rows)
    found = inspect(rows, held.latest)
    fault = _forged(session, held, sealing) or found.fault
    if fault and (latest := anchor(session)) is not None and latest.rows != held.rows:
        return check(session, sealing)  # Rows were archived while we looked.
    return Chain(found.rows, found.latest, fault, held.rows, held.latest)


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
