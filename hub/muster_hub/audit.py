"""The audit log: who did what, each row sealed by a hash over itself and the row before.

The first row's predecessor is 64 zeros. Cutting rows off the end can't be seen from within:
keep the latest hash elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from muster_hub.db.models import Audit
from muster_hub.errors import HubError
from muster_protocol.chunks import sha256_hex

GENESIS = "0" * 64
_LOCK = 0x6D757374


class AuditBroken(HubError):
    """A row of the audit log is not what was written."""

    code = "audit_broken"


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


def seal(row: Audit) -> str:
    """The hash of a row: over the previous hash and every field but the id."""
    fields = [row.previous, row.at, row.actor, row.action, row.subject, row.detail]
    return sha256_hex(msgspec.json.encode(fields, order="deterministic"))


def in_order() -> SelectOfScalar[Audit]:
    """The query for every row, the first one first."""
    return select(Audit).order_by(col(Audit.id))


@dataclass(frozen=True)
class Chain:
    """What following the chain from the first row showed. ``fault`` is empty when it holds."""

    rows: int
    latest: str
    fault: str = ""


def inspect(rows: Iterable[Audit]) -> Chain:
    """Follow rows in order from the first, up to the first that isn't what was written."""
    previous = GENESIS
    count = 0
    for row in rows:
        what = f"audit row {row.id} ({row.action} {row.subject})"
        if row.hash != seal(row):
            return Chain(count, previous, f"{what} was changed")
        if row.previous != previous:
            return Chain(count, previous, f"rows before {what} are missing or out of order")
        previous = row.hash
        count += 1
    return Chain(count, previous)


def verify(rows: Iterable[Audit]) -> tuple[int, str]:
    """Check rows in order from the first; returns how many and the latest hash.

    Raises AuditBroken naming the first row that isn't what was written.
    """
    found = inspect(rows)
    if found.fault:
        raise AuditBroken(found.fault)
    return found.rows, found.latest
