"""Views that other people's dashboards stand on: their columns stay, whatever tables do."""

import pytest
from sqlalchemy import text

from muster_hub.settings.database import sqlite_url
from muster_hub.storage import migrate, models, views
from muster_hub.storage.store import Store

PINNED = {
    "bi_devices": "device labels enrolled_at approved revoked online last_seen_at "
    "certificate_ends_at",
    "bi_releases": "model version status size_bytes pushed_at pushed_by",
    "bi_rollouts": "rollout model version slot selector state wave started_at started_by "
    "updated_at reason devices devices_committed devices_failed",
    "bi_alerts": "alert device kind severity state opened_at updated_at title",
    "bi_days": "model version day_at inferences errors labels_right labels_wrong",
    "bi_device_days": "device model version day_at inferences errors labels_right labels_wrong",
}
"""Written down a second time: to take one away or to rename it is to break somebody's dashboard."""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    if request.param == "sqlite":
        made = Store(sqlite_url(tmp_path / "hub.db"))
    else:
        made = Store(request.getfixturevalue("postgres_server").empty())
    migrate.upgrade(made)
    yield made
    made.close()


def rows(store: Store, view: str) -> list[dict]:
    with store.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {view}")).mappings()]


def test_each_view_begins_with_the_columns_it_always_had(store: Store) -> None:
    with store.engine.connect() as connection:
        assert views.are_current(connection)
        for view, columns in PINNED.items():
            found = connection.execute(text(f"SELECT * FROM {view}")).keys()
            assert list(found)[: len(columns.split())] == columns.split()
    assert set(views.COLUMNS) == set(PINNED)


def test_views_show_what_is_there_with_times_that_others_read(store: Store) -> None:
    with store.write() as session:
        session.add(models.Device(id="cam-1", labels={"site": "oslo"}, created=1_700_000_000.0))
        session.add(models.Model(name="digits", created=0.0))
        session.flush()
        session.add(
            models.Alert(key="a", device="cam-1", kind="drift", severity="warning", state="open",
                         opened=1_700_000_000.0, updated=1.0, title="t")
        )  # fmt: skip
        for device, n in (("", 9), ("cam-1", 4)):
            session.add(
                models.Rollup(level="day", device=device, manifest="a", start=1_700_000_000.0,
                              model="digits", version="1", n=n, payload=b"")
            )  # fmt: skip
    (device,) = rows(store, "bi_devices")
    assert device["device"] == "cam-1"
    assert '"oslo"' in device["labels"]
    assert str(device["enrolled_at"]).startswith("2023-11-14 22:13:20")
    assert [row["alert"] for row in rows(store, "bi_alerts")] == [1]
    assert [row["inferences"] for row in rows(store, "bi_days")] == [9]
    assert [(row["device"], row["inferences"]) for row in rows(store, "bi_device_days")] == [
        ("cam-1", 4)
    ]  # fmt: skip
    assert rows(store, "bi_rollouts") == []
    assert rows(store, "bi_releases") == []


def test_an_upgrade_makes_them_anew_and_takes_away_what_another_hub_left(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("DROP VIEW bi_alerts"))
        connection.execute(text("CREATE VIEW bi_old AS SELECT id FROM device"))
    migrate.upgrade(store)
    with store.engine.connect() as connection:
        assert views.are_current(connection)
