"""The database: migrations equal the models, constraints hold, writers wait for each other."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from muster_hub.errors import ConfigError
from muster_hub.settings.database import sqlite_url
from muster_hub.storage import migrate
from muster_hub.storage.models import (
    Alert,
    Device,
    DirectiveRow,
    EnrolToken,
    EventRow,
    Model,
    RolloutDevice,
    SummaryWindow,
    Version,
)
from muster_hub.storage.store import Store
from muster_hub.storage.tables import METADATA


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = Store(sqlite_url(tmp_path / "hub.db"))
    else:
        made = Store(request.getfixturevalue("postgres_server").empty())
    migrate.upgrade(made)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path):
    made = Store(sqlite_url(tmp_path / "hub.db"))
    migrate.upgrade(made)
    yield made
    made.close()


def test_the_migrations_make_exactly_the_models(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_what_is_written_is_read_back(store):
    with store.write() as session:
        session.add(Device(id="cam-1", labels={"site": "berlin"}, created=1.5))
        session.flush()
        session.add(EventRow(device="cam-1", epoch="ab", sequence=1, kind="note", received=2))
        session.add(EventRow(kind="hub_started", received=3, data={"version": 1}))
        session.add(
            DirectiveRow(
                device="cam-1",
                epoch=1,
                generation=2**53 - 1,
                content_sha256="0" * 64,
                payload=b"\x00\xff",
                envelope=b"{}",
                issued=1,
                expires=2,
            )
        )
    with store.read() as session:
        device = session.get_one(Device, "cam-1")
        assert (device.labels, device.created, device.report) == ({"site": "berlin"}, 1.5, None)
        assert session.get_one(DirectiveRow, "cam-1").generation == 2**53 - 1
        assert session.get_one(DirectiveRow, "cam-1").payload == b"\x00\xff"
        assert [row.kind for row in session.exec(select(EventRow))] == ["note", "hub_started"]


def add(store, *rows):
    with store.write() as session:
        for row in rows:
            session.add(row)
            session.flush()


def refuses(store, *rows):
    with pytest.raises(IntegrityError):
        add(store, *rows)
    return True


def test_the_database_refuses_what_must_not_be(store):
    window = {"device": "cam-1", "epoch": "ab", "start": 0, "received": 0, "payload": b""}
    alert = {"kind": "drift", "severity": "warning", "opened": 1, "updated": 1, "title": "t"}
    with store.write() as session:
        session.add(Device(id="cam-1", created=1))
        session.add(Alert(key="a", state="resolved", **alert))
        session.flush()
        session.add(Alert(key="a", state="resolved", **alert))
        session.add(Alert(key="a", state="open", **alert))
        session.add(SummaryWindow(sequence=1, **window))
    assert refuses(store, SummaryWindow(sequence=1, **window))
    assert refuses(store, Alert(key="a", state="acknowledged", **alert))
    assert refuses(store, Alert(key="b", state="unheard of", **alert))
    assert refuses(store, SummaryWindow(**window | {"device": "stranger", "sequence": 2}))
    token = {"id": "t", "secret_hash": "0" * 64, "created": 0, "expires": 1}
    assert refuses(store, EnrolToken(uses_left=-1, **token))
    version = {"model": "m", "manifest": b"{}", "size_bytes": 1, "created": 0, "created_by": "x"}
    version |= {"version": "1", "manifest_sha256": "0" * 64}
    assert refuses(store, Model(name="m", created=0), Version(status="blessed", **version))
    assert refuses(
        store,
        RolloutDevice(
            rollout=1, device="cam-1", wave=0, state="targeted", targeted_at=0, changed_at=0
        ),
    )


def test_a_failed_transaction_leaves_nothing(store):
    good, bad = Device(id="cam-1", created=1), EventRow(device="cam-2", kind="x", received=1)
    assert refuses(store, good, bad)
    with store.read() as session:
        assert session.get(Device, "cam-1") is None


def test_writers_wait_for_each_other_instead_of_failing(sqlite):
    with sqlite.write() as session:
        session.add(Model(name="count", created=0))

    def bump():
        for _ in range(20):
            with sqlite.write() as session:
                row = session.get_one(Model, "count")
                row.created += 1

    threads = [threading.Thread(target=bump) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sqlite.read() as session:
        assert session.get_one(Model, "count").created == 80


def test_sqlite_keeps_committed_rows_through_a_power_cut(sqlite):
    with sqlite.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_upgrading_an_upgraded_database_changes_nothing(sqlite):
    with sqlite.write() as session:
        session.add(Device(id="cam-1", created=1))
    migrate.upgrade(sqlite)
    with sqlite.read() as session:
        assert session.get(Device, "cam-1") is not None


def test_a_database_of_a_newer_hub_is_left_alone(sqlite):
    with sqlite.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-tomorrow'"))
    with pytest.raises(ConfigError, match="from-tomorrow"):
        migrate.upgrade(sqlite)


def test_a_database_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "hub.db").mkdir()
    with pytest.raises(ConfigError, match=r"hub\.db can't be used"):
        migrate.upgrade(Store(sqlite_url(tmp_path / "hub.db")))
