"""Many rows in one statement: PostgreSQL takes columns as arrays, SQLite one row after the other.

On PostgreSQL a statement a row costs more than the row: what is bound, sent and answered each time.
SQLite has no round trips; there the driver's own loop is the fastest.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    String,
    Table,
    TableValuedAlias,
    and_,
    any_,
    bindparam,
    column,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel

from muster_hub.storage.tables import target

STATEMENTS_MAX = 128
"""Which are kept ready; one for each set of columns that are alike in all rows."""


def insert_new(
    session: Session,
    table: type[SQLModel],
    unique: tuple[str, ...],
    rows: Sequence[dict[str, Any]],
    *,
    keyed: bool = True,
) -> None:
    """Insert rows of the same columns, but for those whose ``unique`` columns are there already.

    ``keyed``: the table always has a unique key of these columns; else what it has decides.
    """
    if not rows:
        return
    connection = session.connection()
    key = unique if keyed else ()
    if connection.dialect.name == "postgresql":
        names = tuple(rows[0])
        alike = _alike(rows, names, unique)
        statement = _arrays_inserted(table, key, names, alike)
        connection.execute(statement, _arrays(names, alike, rows))
    else:
        connection.execute(_row_inserted(table, key), list(rows))


def update_each(
    session: Session, table: type[SQLModel], key: tuple[str, ...], rows: Sequence[dict[str, Any]]
) -> None:
    """Set in the row that each row's ``key`` columns name its other columns; all have the same.

    In no order: who may meet another writer holds a lock on the rows.
    """
    if not rows:
        return
    connection, names = session.connection(), tuple(rows[0])
    if connection.dialect.name == "postgresql":
        alike = _alike(rows, names, key)
        statement = _arrays_updated(table, key, names, alike)
        connection.execute(statement, _arrays(names, alike, rows))
    else:
        named = [{f"given_{name}": value for name, value in row.items()} for row in rows]
        connection.execute(_row_updated(table, key, names), named)


def among(dialect: str, names: Any, parameter: str) -> ColumnElement[bool]:
    """Whether a column of text is one of a list: on PostgreSQL one parameter, else one each."""
    if dialect == "postgresql":
        found: ColumnElement[bool] = names == any_(bindparam(parameter, type_=ARRAY(String)))
    else:
        found = names.in_(bindparam(parameter, expanding=True))
    return found


def _alike(
    rows: Sequence[dict[str, Any]], names: Sequence[str], key: Sequence[str]
) -> tuple[str, ...]:
    """Columns of which all rows have the same value: that is sent once. Never those of the key."""
    first = rows[0]
    return tuple(
        name for name in names if name not in key and all(row[name] == first[name] for row in rows)
    )


def _arrays(
    names: Sequence[str], alike: Sequence[str], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What a statement is given, under names that no column has."""
    return {
        f"given_{name}": rows[0][name] if name in alike else [row[name] for row in rows]
        for name in names
    }


@cache
def _row_inserted(table: type[SQLModel], unique: tuple[str, ...]) -> Executable:
    return sqlite.insert(target(table)).on_conflict_do_nothing(index_elements=unique or None)


@cache
def _row_updated(table: type[SQLModel], key: tuple[str, ...], names: tuple[str, ...]) -> Executable:
    columns = target(table).columns
    return (
        update(target(table))
        .where(and_(*(columns[name] == bindparam(f"given_{name}") for name in key)))
        .values({name: bindparam(f"given_{name}") for name in names if name not in key})
    )


@lru_cache(STATEMENTS_MAX)
def _arrays_inserted(
    table: type[SQLModel], unique: tuple[str, ...], names: tuple[str, ...], alike: tuple[str, ...]
) -> Executable:
    rows, values = _given(target(table), names, alike)
    # Columns that no row names get the defaults that the table declares.
    chosen = select(*(values[name] for name in names)).select_from(rows)
    return (
        postgresql.insert(target(table))
        .from_select(list(names), chosen, include_defaults=True)
        .on_conflict_do_nothing(index_elements=unique or None)
    )


@lru_cache(STATEMENTS_MAX)
def _arrays_updated(
    table: type[SQLModel], key: tuple[str, ...], names: tuple[str, ...], alike: tuple[str, ...]
) -> Executable:
    columns = target(table).columns
    _, values = _given(target(table), names, alike)
    return (
        update(target(table))
        .where(and_(*(columns[name] == values[name] for name in key)))
        .values({name: values[name] for name in names if name not in key})
    )


def _given(
    table: Table, names: Sequence[str], alike: Sequence[str]
) -> tuple[TableValuedAlias, dict[str, ColumnElement[Any]]]:
    """Rows out of arrays, and each column's value: of its row, or the one that all have."""
    types = {name: table.columns[name].type for name in names}
    differ = {name: kind for name, kind in types.items() if name not in alike}
    arrays = [bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in differ.items()]
    typed = (column(name, kind) for name, kind in differ.items())
    rows = func.unnest(*arrays).table_valued(*typed, name="given").render_derived()
    values: dict[str, ColumnElement[Any]] = {
        name: rows.c[name] if name in differ else bindparam(f"given_{name}", type_=kind)
        for name, kind in types.items()
    }
    return rows, values
