"""Views for programs that read the database to draw it, such as Grafana, Metabase or Superset.

Tables change with the hub; these names and columns stay: what is added is added at the end. They
are dropped before a migration, which may then change any table, and made anew after it.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, inspect, text

PREFIX = "bi_"
_MOMENT = {"sqlite": "datetime({}, 'unixepoch')", "postgresql": "to_timestamp({})"}
"""Seconds since 1970 as a time that such programs know, in UTC."""
_VIEWS: Mapping[str, str] = {
    "bi_devices": """
        SELECT id AS device, CAST(labels AS TEXT) AS labels, {created} AS enrolled_at, approved,
            revoked, online, {last_seen} AS last_seen_at,
            {certificate_expires} AS certificate_ends_at
        FROM device""",
    "bi_releases": """
        SELECT model, version, status, size_bytes, {created} AS pushed_at, created_by AS pushed_by
        FROM version""",
    "bi_rollouts": """
        SELECT id AS rollout, model, version, slot, selector, state, wave + 1 AS wave,
            {created} AS started_at, created_by AS started_by, {updated} AS updated_at, reason,
            (SELECT count(*) FROM rollout_device d WHERE d.rollout = rollout.id) AS devices,
            (SELECT count(*) FROM rollout_device d
                WHERE d.rollout = rollout.id AND d.state = 'committed') AS devices_committed,
            (SELECT count(*) FROM rollout_device d
                WHERE d.rollout = rollout.id AND d.state = 'failed') AS devices_failed
        FROM rollout""",
    "bi_alerts": """
        SELECT id AS alert, device, kind, severity, state, {opened} AS opened_at,
            {updated} AS updated_at, title
        FROM alert""",
    "bi_days": """
        SELECT model, version, {start} AS day_at, n AS inferences, errors, labels_right,
            labels_wrong
        FROM rollup WHERE level = 'day' AND device = ''""",
    "bi_device_days": """
        SELECT device, model, version, {start} AS day_at, n AS inferences, errors, labels_right,
            labels_wrong
        FROM rollup WHERE level = 'day' AND device <> ''""",
}
_MOMENTS = ("created", "last_seen", "certificate_expires", "updated", "opened", "start")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "bi_devices": ("device", "labels", "enrolled_at", "approved", "revoked", "online",
                   "last_seen_at", "certificate_ends_at"),
    "bi_releases": ("model", "version", "status", "size_bytes", "pushed_at", "pushed_by"),
    "bi_rollouts": ("rollout", "model", "version", "slot", "selector", "state", "wave",
                    "started_at", "started_by", "updated_at", "reason", "devices",
                    "devices_committed", "devices_failed"),
    "bi_alerts": ("alert", "device", "kind", "severity", "state", "opened_at", "updated_at",
                  "title"),
    "bi_days": ("model", "version", "day_at", "inferences", "errors", "labels_right",
                "labels_wrong"),
    "bi_device_days": ("device", "model", "version", "day_at", "inferences", "errors",
                       "labels_right", "labels_wrong"),
}  # fmt: skip
"""What other people's dashboards are made of."""


def drop(connection: Connection) -> None:
    """Take the views away, those of another version of the hub as well."""
    for name in inspect(connection).get_view_names():
        if name.startswith(PREFIX):
            connection.execute(text(f'DROP VIEW "{name}"'))


def make(connection: Connection) -> None:
    """Make the views anew, on today's tables."""
    drop(connection)
    moment = _MOMENT[connection.dialect.name]
    moments = {name: moment.format(name) for name in _MOMENTS}
    for name, query in _VIEWS.items():
        connection.execute(text(f"CREATE VIEW {name} AS {query.format(**moments)}"))


def are_current(connection: Connection) -> bool:
    """Whether the views are there as they should be."""
    found = inspect(connection)
    names = {name for name in found.get_view_names() if name.startswith(PREFIX)}
    return names == set(COLUMNS) and all(
        tuple(column["name"] for column in found.get_columns(name)) == columns
        for name, columns in COLUMNS.items()
    )
