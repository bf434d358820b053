"""Changes of devices by anyone but themselves are numbered, so that only those need be read again.

What devices say is marked with its time, by ingest. What operators do (labels, approval, a fresh
try) gets the next number in the transaction that does it, whichever process that is; the row with
the number is held until it commits, so numbers become visible in their order.
"""

from typing import Any

from sqlalchemy import Connection, bindparam, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from muster_hub.storage.models import Device
from muster_hub.storage.staging import Revision
from muster_hub.storage.tables import target

CHANGED, GONE = "devices", "devices gone"
_LATEST = select(Revision.name, Revision.number)


def latest(session: Session) -> tuple[int, int]:
    """The number of the latest change of a device, and that of the latest removal of one."""
    found = dict(session.exec(_LATEST).all())
    return found.get(CHANGED, 0), found.get(GONE, 0)


def _insert(dialect: Any) -> Any:
    insert = dialect.insert(target(Revision)).values(name=bindparam("of"), number=1)
    return insert.on_conflict_do_update(
        index_elements=["name"], set_={"number": col(Revision.number) + 1}
    ).returning(col(Revision.number))


_NEXT = {"sqlite": _insert(sqlite), "postgresql": _insert(postgresql)}


def _next(connection: Connection, name: str) -> int:
    return int(connection.execute(_NEXT[connection.dialect.name], {"of": name}).scalar_one())


@event.listens_for(Session, "before_flush")
def _number(session: Session, _context: Any, _instances: Any) -> None:
    """Every unit of work that touches devices is numbered, so that no writer can forget to."""
    changed = [row for row in session.new if isinstance(row, Device)]
    changed += [
        row for row in session.dirty if isinstance(row, Device) and session.is_modified(row)
    ]
    if changed:
        number = _next(session.connection(), CHANGED)
        for row in changed:
            row.revision = number
    if any(isinstance(row, Device) for row in session.deleted):
        _next(session.connection(), GONE)
