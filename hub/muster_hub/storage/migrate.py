"""Bring a database to the tables this version of the hub needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from muster_hub.errors import ConfigError
from muster_hub.storage import views
from muster_hub.storage.store import Store

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6D75736D


def upgrade(store: Store, revision: str = "head") -> None:
    """Run the migrations that are missing up to ``revision``, each in a transaction of its own.

    Raises ConfigError when the database can't be reached or was written by a newer hub.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    try:
        with store.engine.connect() as connection, _alone(connection):
            current = MigrationContext.configure(connection).get_current_revision()
            if current == newest() and revision == "head":
                if not views.are_current(connection):
                    views.make(connection)
                connection.commit()
                return
            scripts = ScriptDirectory.from_config(config)
            known = {script.revision for script in scripts.walk_revisions()}
            if current is not None and current not in known:
                raise ConfigError(
                    f"the database is at revision {current}, which this hub doesn't know: "
                    "it was upgraded by a newer one; run that one"
                )
            connection.rollback()
            config.attributes["connection"] = connection
            views.drop(connection)
            connection.commit()
            with _tables_may_be_made_anew(connection):
                command.upgrade(config, revision)
                connection.commit()
            if revision == "head":
                views.make(connection)
                connection.commit()
    except OperationalError as error:
        where = store.engine.url.render_as_string(hide_password=True)
        raise ConfigError(f"the database {where} can't be used: {error.orig}") from None


def newest() -> str:
    """The revision of the tables this hub needs, by the names of its migrations' files.

    Each start asks for it, and loading the migrations themselves takes longer than all else then.
    """
    files = (_MIGRATIONS / "versions").glob("[0-9]*.py")
    return max(path.name.partition("_")[0] for path in files)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Processes of a hub that start at once do it one after another; SQLite has only one."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()


@contextmanager
def _tables_may_be_made_anew(connection: Connection) -> Iterator[None]:
    """SQLite changes a constraint only by making its table anew: others may refer to it meanwhile.

    Raises ConfigError when a reference leads nowhere afterwards.
    """
    raw = connection.connection.driver_connection
    if connection.dialect.name != "sqlite" or raw is None:
        yield
        return
    raw.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
        lost = raw.execute("PRAGMA foreign_key_check").fetchone()
        if lost is not None:
            raise ConfigError(
                f"the database refers from {lost[0]!r} to a row of {lost[2]!r} that is not there: "
                "restore it from a backup"
            )
    finally:
        raw.execute("PRAGMA foreign_keys=ON")
