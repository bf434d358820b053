"""Windows into hours and days, of each device and of the fleet, by merging; then what is old goes.

A window is added to its device's hour and day and to the fleet's in the transaction that marks it,
so that it is in each exactly once, however late it came.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_
from sqlmodel import Session, col, delete, select

from muster_hub.fleet import set_aside
from muster_hub.registry.published import Bundles
from muster_hub.settings.retention import Telemetry
from muster_hub.storage import models, partitions
from muster_hub.storage.care import Care
from muster_hub.storage.models import Rollup, SummaryWindow
from muster_hub.storage.tables import target
from muster_protocol.signals import summary as summaries
from muster_protocol.signals import summary_wire
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.summary import Summary
from muster_protocol.wire.errors import LimitError, MusterError

ROWS_MAX = 600
DELETED_ROWS_MAX = 2_000
"""In one transaction, so that ingest never waits long."""
SETTLED_SECONDS = 600.0
"""After its end an hour is closed: most of it is then here, and it is written once."""
DAY_SECONDS = 86_400.0
LEVEL_SECONDS: dict[models.RollupLevel, float] = {"hour": 3600.0, "day": DAY_SECONDS}
FLEET = ""

Key = tuple[models.RollupLevel, str, str, float]
_log = logging.getLogger(__name__)
_UNROLLED = (
    select(SummaryWindow)
    .where(
        col(SummaryWindow.rolled).is_(False),
        col(SummaryWindow.folded).is_(True),
        col(SummaryWindow.fault) == "",
        col(SummaryWindow.start) < bindparam("settled"),
    )
    .order_by(col(SummaryWindow.start))
    .limit(ROWS_MAX)
)


@dataclass
class _Sum:
    """Windows of one hour or day merged; ``summary`` is None while none could be read."""

    model: str
    version: str
    windows: int = 0
    seconds: float = 0.0
    n: int = 0
    errors: int = 0
    labels_right: int = 0
    labels_wrong: int = 0
    summary: Summary | None = None

    def add(self, row: "SummaryWindow | _Sum", summary: Summary | None, windows: int) -> None:
        self.windows += windows
        self.seconds += row.seconds
        self.n += row.n
        self.errors += row.errors
        self.labels_right += row.labels_right
        self.labels_wrong += row.labels_wrong
        if summary is not None:
            whole = self.summary
            self.summary = summary if whole is None else summaries.merge(whole, summary)


def step(session: Session, bundles: Bundles, now: float, care: Care | None = None) -> int:
    """Add up to ``ROWS_MAX`` windows of hours that have ended to their hours and days; how many.

    With care one by one: a window that can't be added is set aside.
    """
    settled = _floor(now - SETTLED_SECONDS, "hour")
    rows = session.exec(_UNROLLED, params={"settled": settled}).all()
    care = care or Care()
    parts: list[Sequence[SummaryWindow]] = [[row] for row in rows] if care.careful else [rows]

    def add(part: Sequence[SummaryWindow]) -> None:
        for key, added in _sums(part, bundles).items():
            _store(session, key, added, _baseline(bundles, key[2]))
        for row in part:
            row.rolled = True
            session.add(row)

    care.each(
        session, parts, add,
        lambda part: set_aside.name_of(part[0]),
        lambda part, why: set_aside.windows(session, part, why, now),
    )  # fmt: skip
    return len(rows)


def forget(session: Session, kept: Telemetry, now: float) -> int:
    """Delete what is older than ``kept`` allows, a bounded number of rows; how many.

    Windows go only once they are in their hours and days, and so do those that nobody could read
    or add up. A sender that repeats one is answered without it: from the stream's mark, or from
    what is known beyond that.
    """
    gone = _forget_windows(session.connection(), now - kept.raw_days * DAY_SECONDS)
    for level, days in (("hour", kept.hour_days), ("day", kept.day_days)):
        before_day = _floor(now - days * DAY_SECONDS, "day")
        starts = session.exec(
            select(Rollup.start)
            .where(col(Rollup.level) == level, col(Rollup.start) < before_day)
            .order_by(col(Rollup.start))
            .limit(DELETED_ROWS_MAX)
        ).all()
        if starts:
            span = (col(Rollup.start) >= starts[0], col(Rollup.start) <= starts[-1])
            done = session.exec(delete(Rollup).where(col(Rollup.level) == level, *span))
            gone += done.rowcount
    return gone


def _forget_windows(connection: Connection, before: float) -> int:
    if partitions.is_partitioned(connection):
        return partitions.delete_old(connection, before, DELETED_ROWS_MAX)
    ids = [number for (number,) in connection.execute(_OLD, {"before": before})]
    if ids:
        connection.execute(_DELETE, {"ids": ids})
    return len(ids)


_OLD = (
    select(SummaryWindow.id)
    .where(
        col(SummaryWindow.start) < bindparam("before"),
        or_(col(SummaryWindow.rolled).is_(True), col(SummaryWindow.fault) != ""),
    )
    .order_by(col(SummaryWindow.start))
    .limit(DELETED_ROWS_MAX)
)
"""By the index on ``start``: what is not old is not looked at."""
_DELETE = delete(target(SummaryWindow)).where(
    col(SummaryWindow.id).in_(bindparam("ids", expanding=True))
)


def _floor(at: float, level: models.RollupLevel) -> float:
    return at - at % LEVEL_SECONDS[level]


def _sums(rows: Iterable[SummaryWindow], bundles: Bundles) -> dict[Key, _Sum]:
    """Rows merged into device hours, those into device days and fleet hours, and so on."""
    hours: dict[Key, _Sum] = {}
    for row in rows:
        key: Key = ("hour", row.device, row.manifest, _floor(row.start, "hour"))
        whole = hours.setdefault(key, _Sum(row.model, row.version))
        whole.add(row, _read(row.payload, _baseline(bundles, row.manifest), merged=False), 1)
    fleet = _merged(hours, lambda key: (key[0], FLEET, key[2], key[3]))
    every = hours | fleet
    return every | _merged(every, lambda key: ("day", key[1], key[2], _floor(key[3], "day")))


def _merged(parts: dict[Key, _Sum], whole_of: Callable[[Key], Key]) -> dict[Key, _Sum]:
    wholes: dict[Key, _Sum] = {}
    for key, part in parts.items():
        whole = wholes.setdefault(whole_of(key), _Sum(part.model, part.version))
        whole.add(part, part.summary, part.windows)
    return wholes


def _store(session: Session, key: Key, added: _Sum, baseline: Baseline | None) -> None:
    level, device, manifest, start = key
    row = session.get(Rollup, key) or Rollup(
        level=level, device=device, manifest=manifest, start=start, model=added.model,
        version=added.version, payload=b"",
    )  # fmt: skip
    row.seconds += added.seconds
    for name in ("windows", "n", "errors", "labels_right", "labels_wrong"):
        setattr(row, name, summaries.added(getattr(row, name), getattr(added, name)))
    before = _read(row.payload, baseline, merged=True) if row.payload else None
    if added.summary is not None:
        whole = added.summary if before is None else summaries.merge(before, added.summary)
        try:
            row.payload = summary_wire.encode(whole, exact=True, merged=True)
        except LimitError as error:
            _log.warning("the %s of %s is full, only counts go on: %s", level, manifest[:12], error)
    session.add(row)


def _read(payload: bytes, baseline: Baseline | None, *, merged: bool) -> Summary | None:
    """A summary; without its features where their baseline is missing."""
    try:
        read = summary_wire.decode(payload, baseline, merged=merged)
    except MusterError:
        try:
            head = summary_wire.peek(payload, merged=merged)
        except MusterError:
            return None
        return None if isinstance(head, summary_wire.Unknown) else head.summary
    return None if isinstance(read, summary_wire.Unknown) else read


def _baseline(bundles: Bundles, manifest: str) -> Baseline | None:
    try:
        return bundles.baseline(manifest)
    except MusterError:
        return None
