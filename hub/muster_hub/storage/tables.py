"""What every table shares: metadata with named constraints, JSON columns, lists of allowed words.

Times are seconds since 1970 (UTC). JSON values are replaced, never changed in place: SQLAlchemy
does not notice a change inside one.
"""

from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    inspect,
)
from sqlalchemy import Table as Target
from sqlmodel import Field, SQLModel

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


Rowid = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column declared INTEGER."""

NAME = 64
HEX = 64
"""Longest names and digests, in characters."""


class Table(SQLModel):
    """The base of every table, so that all share one set of metadata."""

    metadata = METADATA


def json_field(default: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """A JSON column that is never null."""
    return Field(default_factory=default, sa_type=JSON, nullable=False)


def optional_json_field() -> Any:
    """A JSON column where None is SQL's NULL."""
    return Field(default=None, sa_type=JSON(none_as_null=True), nullable=True)


def target(table: type[SQLModel]) -> Target:
    """For statements that change many rows at once and know nothing of objects in the session."""
    return cast("Target", inspect(table).local_table)


def one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    """A constraint that keeps ``column`` to the given words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def version_exists() -> ForeignKeyConstraint:
    """A constraint that keeps ``model`` and ``version`` to a version there is."""
    return ForeignKeyConstraint(["model", "version"], ["version.model", "version.version"])
