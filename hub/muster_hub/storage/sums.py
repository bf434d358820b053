"""Sums in the database that can't overflow, whatever devices say they counted.

SQLite adds integers in 64 bits and fails beyond; added as floats they are exact up to 2^53, as far
as every reader of JSON goes, and good to 16 digits after that.
"""

from typing import Any

from sqlalchemy import Double, cast, func
from sqlalchemy.sql.elements import ColumnElement

from muster_protocol.wire import limits


def total(column: Any) -> ColumnElement[float]:
    """The sum of a column as a number of double precision; NULL of no rows."""
    return func.sum(cast(column, Double))


def whole(value: float | None) -> int:
    """A sum of counts as an integer, at most what the wire holds."""
    return min(int(value or 0), limits.INTEGER_MAX)
