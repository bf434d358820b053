"""Lists that a scope narrows by model and selector, read a page at a time. Nothing here writes.

A scope's selector can't be told in the database's words, so few columns of many rows are looked
through, and only the rows of the page are read whole.
"""

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy import select as columns_of
from sqlmodel import Session, col, select

from muster_hub.access.governance import Scope
from muster_hub.storage import models

Plain = dict[str, Any]
ROWS_AT_ONCE = 500
VERSION_SHOWN = (
    "model", "version", "status", "manifest_sha256", "size_bytes", "created", "created_by",
    "lineage", "check",
)  # fmt: skip


def rollouts(session: Session, scope: Scope, *, before: int | None, limit: int) -> list[Plain]:
    """Rollouts within a scope without their devices, the newest first."""
    row = models.Rollout
    query = columns_of(col(row.id), col(row.model), col(row.selector)).order_by(col(row.id).desc())
    if before is not None:
        query = query.where(col(row.id) < before)
    seen = _within(session, query, scope, limit)
    found = session.exec(select(row).where(col(row.id).in_(seen)).order_by(col(row.id).desc()))
    return [item.model_dump() for item in found]


def versions(session: Session, names: Sequence[str]) -> dict[str, list[Plain]]:
    """The versions of each of these models without their manifests, the newest first."""
    row = models.Version
    columns = [col(getattr(row, name)) for name in VERSION_SHOWN]
    found: dict[str, list[Plain]] = {}
    query = columns_of(*columns).where(col(row.model).in_(names)).order_by(col(row.created).desc())
    for item in session.connection().execute(query).mappings():
        told = dict(item)
        kept = told["check"]
        told["check"] = {
            "ok": kept.get("ok"),
            "reason": kept.get("reason", ""),
            "builds": kept.get("builds", []),
        }
        found.setdefault(told["model"], []).append(told)
    return found


def assignments(
    session: Session, scope: Scope, *, after: int, limit: int
) -> Sequence[models.Assignment]:
    """Assignments within a scope by id, those after ``after``."""
    row = models.Assignment
    query = (
        columns_of(col(row.id), col(row.model), col(row.selector))
        .where(col(row.id) > after)
        .order_by(col(row.id))
    )
    seen = _within(session, query, scope, limit)
    return session.exec(select(row).where(col(row.id).in_(seen)).order_by(col(row.id))).all()


def _within(
    session: Session, query: Select[int | None, str, str], scope: Scope, limit: int
) -> list[int]:
    """The first ``limit`` ids of (id, model, selector) that a scope covers, in their order."""
    if scope.everything:
        query = query.limit(limit)
    covers = functools.cache(scope.covers)
    found: list[int] = []
    for number, model, selector in session.connection().execute(query).yield_per(ROWS_AT_ONCE):
        if number is not None and scope.has_model(model) and covers(selector):
            found.append(number)
        if len(found) == limit:
            break
    return found
