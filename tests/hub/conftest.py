"""Both databases, for the tests that ask for ``database``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster_hub.settings.database import sqlite_url
from support import postgres
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database: on PostgreSQL with the hub's tables, on SQLite without."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "hub.db")
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.fresh()
