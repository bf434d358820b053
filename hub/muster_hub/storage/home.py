"""Whose database this is: that of one hub, whatever directory it is opened from."""

from sqlalchemy.dialects import postgresql, sqlite

from muster_hub.errors import ConfigError
from muster_hub.storage.processes import Home
from muster_hub.storage.store import Store
from muster_hub.storage.tables import target

_ONLY = 1


def claim(store: Store, root_sha256: str) -> None:
    """Make the database that of the hub with this first root. Raises ConfigError when it is
    another's.
    """
    held = _held(store)
    if held is None:
        insert = (postgresql if store.engine.dialect.name == "postgresql" else sqlite).insert
        row = {"id": _ONLY, "root_sha256": root_sha256}
        with store.write() as session:
            session.connection().execute(insert(target(Home)).on_conflict_do_nothing(), row)
        held = _held(store)
    if held != root_sha256:
        raise ConfigError(
            f"the database belongs to another hub: its first root is {str(held)[:12]}…, that of "
            f"this directory {root_sha256[:12]}…. Use that hub's directory, or an empty database"
        )


def _held(store: Store) -> str | None:
    with store.read() as session:
        row = session.get(Home, _ONLY)
    return None if row is None else row.root_sha256
