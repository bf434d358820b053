"""Rows of the audit log as they are shown. Nothing here writes."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from muster_hub.storage.models import Audit


def newest(
    session: Session, *, actor: str, action: str, subject: str, before: int | None, limit: int
) -> Sequence[Audit]:
    """Rows that hold these words, the newest first, those before ``before``."""
    query = select(Audit).order_by(col(Audit.id).desc()).limit(limit)
    for column, words in ((Audit.actor, actor), (Audit.action, action), (Audit.subject, subject)):
        if words:
            query = query.where(col(column).contains(words, autoescape=True))
    if before is not None:
        query = query.where(col(Audit.id) < before)
    return session.exec(query).all()
