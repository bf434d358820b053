"""What is looked at outside for new versions. The looking is done by `muster source run`.

The hub itself connects to no registry and needs none of its credentials.
"""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from muster_hub.errors import Conflict, NotFound
from muster_hub.storage.registry import ModelSource

SOURCES_MAX = 256
EVERY_SECONDS_MIN = 10.0


def find(session: Session, number: int) -> ModelSource:
    """A source by its number; raises NotFound."""
    row = session.get(ModelSource, number)
    if row is None:
        raise NotFound(f"there is no source {number}")
    return row


def listed(session: Session) -> Sequence[ModelSource]:
    """All sources in the order in which they were added."""
    return session.exec(select(ModelSource).order_by(col(ModelSource.id))).all()


def add(
    session: Session, *, uri: str, model: str, every_seconds: float, options: dict[str, Any],
    by: str, now: float,
) -> ModelSource:  # fmt: skip
    """Have a place looked at. The caller's transaction holds the audit log's lock. Conflict."""
    if session.exec(select(ModelSource.id).where(ModelSource.uri == uri)).first() is not None:
        raise Conflict(f"{uri} is a source already")
    if session.exec(select(func.count()).select_from(ModelSource)).one() >= SOURCES_MAX:
        raise Conflict(f"there are {SOURCES_MAX} sources, the most there may be: remove one")
    row = ModelSource(
        uri=uri, model=model, every_seconds=every_seconds, options=options, created=now,
        created_by=by,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def note(
    session: Session, row: ModelSource, *, identity: str, version: str, fault: str, now: float
) -> bool:
    """Keep what a look found; whether it is news."""
    news = bool(identity and identity != row.identity) or fault != row.fault
    row.looked, row.fault = now, fault
    if identity and not fault:
        row.identity, row.version = identity, version
    session.add(row)
    return news
