"""Databases that older hubs filled: each released schema, every table, upgraded to today's."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    inspect,
    select,
)
from sqlalchemy.exc import IntegrityError

from muster_hub.alerts import expiry
from muster_hub.settings.database import sqlite_url
from muster_hub.storage import migrate, models
from muster_hub.storage.store import Store
from muster_hub.storage.tables import METADATA
from support.postgres import Postgres

SCRIPTS = Path(migrate.__file__).parent / "migrations"
REVISIONS = [script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()][::-1]
ROWS = 2


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = Store(sqlite_url(tmp_path / "hub.db"))
    else:
        made = Store(request.getfixturevalue("postgres_server").empty())
    yield made
    made.close()


def allowed(engine: Engine, table: Table) -> dict[str, str]:
    """For columns that take only some words, the first of them."""
    found = {}
    for check in inspect(engine).get_check_constraints(table.name):
        words = re.findall(r"'(\w+)'", check["sqltext"])
        # Without the words: one of a loop's states is the name of another column.
        condition = re.sub(r"'\w*'", "", check["sqltext"])
        named = [column for column in table.columns.keys() if column in condition]  # noqa: SIM118 - no mapping
        if words and named:
            found[max(named, key=len)] = words[0]
    return found


def value(column: Column[Any], number: int) -> Any:
    kind = column.type
    if isinstance(kind, JSON):
        return {"number": number}
    if isinstance(kind, Boolean):
        return False
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, number])
    if isinstance(kind, Numeric):
        return float(number)
    if isinstance(kind, String):
        return f"{column.name}-{number}"[-(kind.length or 64) :]
    return number


def fill(connection: Connection, engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Rows in every table, as they were written, by table."""
    tables = MetaData()
    tables.reflect(connection)
    written: dict[str, list[dict[str, Any]]] = {}
    for table in tables.sorted_tables:
        if table.name == "alembic_version":
            continue
        words = allowed(engine, table)
        rows = written[table.name] = []
        for number in range(1, ROWS + 1):
            row = {
                column.name: words.get(column.name) or value(column, number)
                for column in table.columns
            }
            for key in table.foreign_key_constraints:
                referred = written[key.referred_table.name][number - 1]
                for element in key.elements:
                    row[element.parent.name] = referred[element.column.name]
            rows.append(row)
            connection.execute(table.insert().values(**row))
    return written


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_filled_database_of_each_released_schema_keeps_every_row(store, revision):
    migrate.upgrade(store, revision)
    with store.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == revision
        written = fill(connection, store.engine)
        connection.commit()
    assert len(written) > 15
    migrate.upgrade(store)
    tables = MetaData()
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        tables.reflect(connection)
        for name, rows in written.items():
            table = tables.tables[name]
            found = connection.execute(select(table)).mappings().all()
            assert len(found) == ROWS, name
            for row in rows:
                assert any(row.items() <= dict(item).items() for item in found), (name, row, found)


def checks(table: Table) -> dict[str, set[str]]:
    """The words that each check of a table lists, by its column."""
    found = {}
    for check in table.constraints:
        if isinstance(check, CheckConstraint):
            text = str(check.sqltext)
            found[text.partition(" ")[0]] = set(re.findall(r"'(\w+)'", text))
    return {column: words for column, words in found.items() if words}


def test_every_word_that_the_hub_writes_is_one_that_an_upgraded_database_takes(store):
    migrate.upgrade(store)
    compared = 0
    for table in METADATA.sorted_tables:
        listed = inspect(store.engine).get_check_constraints(table.name)
        for column, words in checks(table).items():
            (text,) = [
                item["sqltext"] for item in listed if item["name"] == f"ck_{table.name}_{column}"
            ]
            assert set(re.findall(r"'(\w+)'", text)) == words, (table.name, column)
            compared += 1
    assert compared > 5


def test_references_hold_again_after_an_upgrade(store):
    migrate.upgrade(store)
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(models.Certificate(
            serial="1", device="nobody", key_fingerprint="", pem="", issued=0, expires=0,
        ))  # fmt: skip


def test_a_device_that_was_off_during_the_upgrade_is_known_to_be_late(store):
    migrate.upgrade(store, "0006")
    reports = {
        "late": {"trust": {"expires": {"timestamp": 1e9, "snapshot": 2e9}}},
        "mute": {"trust": None},
        "new": None,
    }
    with store.engine.connect() as connection:
        tables = MetaData()
        tables.reflect(connection, only=["device"])
        for name, report in reports.items():
            connection.execute(tables.tables["device"].insert().values(
                id=name, labels={}, created=0.0, approved=True, revoked=False, online=False,
                report=report,
            ))  # fmt: skip
        connection.commit()
    migrate.upgrade(store)
    with store.read() as session:
        found = {name: session.get_one(models.Device, name).late_from for name in reports}
    assert found == {"late": expiry.late_from(reports["late"]), "mute": None, "new": None}


def test_revisions_form_one_chain():
    script = ScriptDirectory(str(SCRIPTS))
    assert script.get_heads() == [migrate.newest()]
    assert sorted(REVISIONS) == REVISIONS


def test_processes_that_start_at_once_make_the_tables_one_after_another(postgres_server: Postgres):
    url = postgres_server.empty()
    stores = [Store(url) for _ in range(3)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(migrate.upgrade, stores))
    with stores[0].engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    for store in stores:
        store.close()
    assert found == migrate.newest()
