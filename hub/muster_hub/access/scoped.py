"""Rows that a scope narrows by model and selector, a page at a time.

A scope's selector can't be told in the database's words, so few columns of many rows are looked
through, and only the rows of the page are read whole.
"""

import functools

from sqlalchemy import Select
from sqlmodel import Session

from muster_hub.access.governance import Scope

ROWS_AT_ONCE = 500


def within(
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
