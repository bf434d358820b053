"""Windows by day on PostgreSQL: partitions made ahead, and dropped whole when they are old.

To drop a day costs nothing, where to delete its rows costs as much as to write them. The table of
before becomes the first partition, up to a day to come. What fits into no partition goes to one
for all else, so that nothing is ever refused. SQLite keeps its plain table.

A partitioned table can't have a unique key without the time; ``Ahead`` says why none is needed. It
refers to no devices either: ingest holds their rows, no device's row is ever deleted, and to drop
a partition would stop everybody who reads devices.
"""

import random
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex

from muster_hub.errors import ConfigError
from muster_hub.storage.models import Ahead, SummaryWindow
from muster_hub.storage.store import Store
from muster_hub.storage.tables import target

DAY_SECONDS = 86_400.0
AHEAD_DAYS = 7
"""An engine may be away for so long before windows go to the partition for all else."""
BOUND_DAYS = 7
"""The plain table is made the partition of all that is before then."""
DROPPED_MAX = 8
"""In one step, so that nobody waits long."""
STUCK_DAYS = 2
SMALL_ROWS = 10_000
"""A table that small is partitioned without being asked, in one short transaction."""
LOCK_MS = 500
"""Who waits longer for a table gives up and comes again; less than deadlocks are looked for."""
NAME = "summary_window"
BEFORE, OTHER = f"{NAME}_before", f"{NAME}_other"
ID_INDEX = f"ix_{NAME}_id"
LOCK_GONE = "55P03"
TRIES = 20
_BOUND = f"ck_{NAME}_until_"
_random = random.SystemRandom()
_SEED = text(
    "INSERT INTO telemetry_ahead (device, stream, epoch, sequence)"
    " SELECT s.device, s.stream, s.epoch, w.sequence FROM stream s JOIN summary_window w"
    " ON w.device = s.device AND w.epoch = s.epoch AND w.sequence > s.contiguous"
    " WHERE s.stream = 'summary' ON CONFLICT DO NOTHING"
)
"""Also what an older hub wrote that still ran when the tables were already this one's."""


@dataclass(frozen=True)
class Partition:
    """One of a range of ``start``, in seconds since 1970: from ``since`` on, before ``until``."""

    name: str
    since: float
    until: float


@dataclass(frozen=True)
class PartitionPlan:
    """Days to make, by their first second, and partitions that are old, the oldest first."""

    made: Sequence[float]
    old: Sequence[Partition]


def plan(found: Collection[Partition], raw_days: int, now: float) -> PartitionPlan:
    """Days from today on of which no part is covered; what ended ``raw_days`` days ago."""
    today = now - now % DAY_SECONDS
    days = [today + number * DAY_SECONDS for number in range(AHEAD_DAYS + 1)]
    free = [
        day
        for day in days
        if not any(part.since < day + DAY_SECONDS and day < part.until for part in found)
    ]
    before = now - raw_days * DAY_SECONDS
    old = sorted((part for part in found if part.until <= before), key=lambda part: part.until)
    return PartitionPlan(free, old[:DROPPED_MAX])


def step(connection: Connection, raw_days: int, now: float) -> int:
    """Make days ahead and drop what is old, in the caller's transaction; how many in all.

    A partition stays while a window of it is not in its hour and day yet. Gives up, for this time,
    when somebody holds the table.
    """
    if connection.dialect.name != "postgresql":
        return 0
    try:
        with connection.begin_nested():
            if not _ready(connection, now):
                return 0
            return _kept(connection, plan(partitions(connection), raw_days, now))
    except OperationalError as error:
        if _is_held(error):
            return 0
        raise


def delete_old(connection: Connection, before: float, most: int) -> int:
    """Delete windows from before ``before`` that don't go with their day; how many, at most
    ``most``: those of the plain table, those of no day, and of a day that waits for one of its
    windows for ``STUCK_DAYS`` already.
    """
    gone = 0
    stuck = before - STUCK_DAYS * DAY_SECONDS
    found = partitions(connection)
    tables = [part.name for part in found if part.name == BEFORE or part.until <= stuck]
    for table in (OTHER, *tables):
        done = connection.execute(text(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table}"  # noqa: S608 - names of ours
            " WHERE start < :before"
            " AND (rolled IS true OR fault <> '') ORDER BY start LIMIT :most)"
        ), {"before": before, "most": most - gone})  # fmt: skip
        gone += done.rowcount
        if gone >= most:
            break
    return gone


def is_partitioned(connection: Connection) -> bool:
    """Whether the table of windows is one of partitions; never on SQLite."""
    if connection.dialect.name != "postgresql":
        return False
    kind = connection.execute(
        text("SELECT relkind FROM pg_class WHERE oid = 'summary_window'::regclass")
    )
    return kind.scalar_one() in ("p", b"p")


def partitions(connection: Connection) -> list[Partition]:
    """Those of a range; not the one for all else."""
    rows = connection.execute(text(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'summary_window'::regclass"
    ))  # fmt: skip
    found = []
    for name, bound in rows:
        ends = re.fullmatch(r"FOR VALUES FROM \((.+)\) TO \((.+)\)", bound)
        if ends is not None:
            since, until = ends.groups()
            least = float("-inf") if since == "MINVALUE" else float(since.strip("'"))
            found.append(Partition(name, least, float(until.strip("'"))))
    return found


def prepare(connection: Connection, now: float) -> None:
    """Do beside all who write what makes ``swap`` short: the longest part, on a large table.

    The connection commits each statement by itself. To be called again after it was cut off.
    """
    if is_partitioned(connection):
        return
    connection.execute(_SEED)
    index = f"{ID_INDEX}_before"
    valid = connection.execute(text(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    ), {"name": index}).scalar()  # fmt: skip
    if valid is False:
        connection.execute(text(f"DROP INDEX CONCURRENTLY {index}"))
    if not valid:
        connection.execute(text(f"CREATE INDEX CONCURRENTLY {index} ON {NAME} (id)"))
    bound = _bound(connection)
    connection.execute(text(f"SET lock_timeout = {LOCK_MS}"))
    if bound is not None and bound[0] < now + DAY_SECONDS:
        connection.execute(text(f"ALTER TABLE {NAME} DROP CONSTRAINT {_BOUND}{bound[0]:.0f}"))
        bound = None
    if bound is None:
        until = now - now % DAY_SECONDS + BOUND_DAYS * DAY_SECONDS
        connection.execute(text(
            f"ALTER TABLE {NAME} ADD CONSTRAINT {_BOUND}{until:.0f}"
            f" CHECK (start < {until:.0f}) NOT VALID"
        ))  # fmt: skip
        bound = (until, False)
    if not bound[1]:
        connection.execute(text(f"ALTER TABLE {NAME} VALIDATE CONSTRAINT {_BOUND}{bound[0]:.0f}"))


def swap(connection: Connection, now: float) -> None:
    """Put a table of partitions in the plain one's place, which becomes the first of them.

    In the caller's transaction. Short when ``prepare`` was called before, or the table is small.
    Raises OperationalError when somebody holds the table for longer than ``LOCK_MS``.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    # In the order in which ingest takes them.
    connection.execute(text(f"LOCK TABLE device, {NAME} IN ACCESS EXCLUSIVE MODE"))
    if is_partitioned(connection):
        return
    bound, until = _bound(connection), now - now % DAY_SECONDS + BOUND_DAYS * DAY_SECONDS
    if bound is None:
        connection.execute(_SEED)
    else:
        until = bound[0]
    sequence = connection.execute(text(f"SELECT pg_get_serial_sequence('{NAME}', 'id')")).scalar()
    keys = connection.execute(text(
        "SELECT conname FROM pg_constraint WHERE contype IN ('p', 'u', 'f')"
        " AND conrelid = 'summary_window'::regclass"
    )).scalars().all()  # fmt: skip
    for key in keys:
        connection.execute(text(f"ALTER TABLE {NAME} DROP CONSTRAINT {key}"))
    indexes = sorted(target(SummaryWindow).indexes, key=lambda index: str(index.name))
    for index in indexes:
        connection.execute(text(f"ALTER INDEX {index.name} RENAME TO {index.name}_before"))
    for statement in (
        f"ALTER TABLE {NAME} RENAME TO {BEFORE}",
        f"CREATE TABLE {NAME} (LIKE {BEFORE} INCLUDING DEFAULTS) PARTITION BY RANGE (start)",
        f"CREATE INDEX IF NOT EXISTS {ID_INDEX}_before ON {BEFORE} (id)",
        f"CREATE INDEX {ID_INDEX} ON {NAME} (id)",
        *([f"ALTER SEQUENCE {sequence} OWNED BY {NAME}.id"] if sequence else []),
    ):
        connection.execute(text(statement))
    for index in indexes:
        connection.execute(CreateIndex(index))
    connection.execute(text(
        f"ALTER TABLE {NAME} ATTACH PARTITION {BEFORE} FOR VALUES FROM (MINVALUE) TO ({until:.0f})"
    ))  # fmt: skip
    if bound is not None:
        connection.execute(text(f"ALTER TABLE {BEFORE} DROP CONSTRAINT {_BOUND}{until:.0f}"))
    connection.execute(text(f"CREATE TABLE {OTHER} PARTITION OF {NAME} DEFAULT"))


def _ready(connection: Connection, now: float) -> bool:
    """Whether the table is partitioned, now at the latest."""
    if is_partitioned(connection):
        return True
    bound = _bound(connection)
    if bound is None:
        rows = connection.execute(text(
            "SELECT count(*) FROM (SELECT FROM summary_window LIMIT :most) AS found"
        ), {"most": SMALL_ROWS + 1})  # fmt: skip
        if rows.scalar_one() > SMALL_ROWS:
            return False
    elif not bound[1]:
        if bound[0] < now + DAY_SECONDS:
            # Somebody began to prepare and never ended: it must refuse no window to come.
            connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
            name = f"{_BOUND}{bound[0]:.0f}"
            connection.execute(text(f"ALTER TABLE {NAME} DROP CONSTRAINT {name}"))
        return False
    swap(connection, now)
    return True


def _kept(connection: Connection, todo: PartitionPlan) -> int:
    if not todo.made and not todo.old:
        return 0
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    connection.execute(text(f"LOCK TABLE {NAME} IN ACCESS EXCLUSIVE MODE"))
    done = 0
    for day in todo.made:
        span = {"since": day, "until": day + DAY_SECONDS}
        # Their rows came while no engine was there; they go one by one when they are old.
        taken = connection.execute(text(
            "SELECT EXISTS (SELECT FROM summary_window_other"
            " WHERE start >= :since AND start < :until)"
        ), span)  # fmt: skip
        if not taken.scalar_one():
            connection.execute(text(
                f"CREATE TABLE {NAME}_{day / DAY_SECONDS:.0f} PARTITION OF {NAME}"
                f" FOR VALUES FROM ({day:.0f}) TO ({day + DAY_SECONDS:.0f})"
            ))  # fmt: skip
            done += 1
    for part in todo.old:
        waits = connection.execute(text(
            f"SELECT EXISTS (SELECT FROM {part.name}"  # noqa: S608 - a name of ours
            " WHERE rolled IS false AND fault = '')"
        ))  # fmt: skip
        if not waits.scalar_one():
            connection.execute(text(f"DROP TABLE {part.name}"))
            done += 1
    return done


def _bound(connection: Connection) -> tuple[float, bool] | None:
    """Before when all rows of the plain table are said to be, and whether that was looked at."""
    row = connection.execute(text(
        "SELECT conname, convalidated FROM pg_constraint"
        " WHERE conrelid = 'summary_window'::regclass AND conname LIKE :name"
    ), {"name": f"{_BOUND}%"}).first()  # fmt: skip
    return None if row is None else (float(row[0].removeprefix(_BOUND)), bool(row[1]))


def _is_held(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlstate", None) == LOCK_GONE


def convert(store: Store, now: float) -> None:
    """Bring a table of any size to partitions while others write it.

    All processes of the hub must be of this version. Raises ConfigError where that can't be, and
    when somebody holds the table for so long that it has to be tried later; what is done by then
    stays done, and hinders nobody.
    """
    engine = store.engine
    if engine.dialect.name != "postgresql":
        raise ConfigError("only PostgreSQL has partitions: on SQLite nothing is to be done")
    if not inspect(engine).has_table(target(Ahead).name):
        raise ConfigError("the database is an older hub's: start this one on it first")
    for number in range(TRIES):
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                try:
                    prepare(connection, now)
                finally:
                    connection.execute(text("RESET lock_timeout"))
            with store.write() as session:
                swap(session.connection(), now)
                return
        except OperationalError as error:
            if not _is_held(error):
                raise
        time.sleep(min(0.1 * 2**number, 5.0) * _random.uniform(0.5, 1.0))  # the holder ends
    raise ConfigError(
        "others hold the table of windows: end long reads of the database, then try again"
    )
