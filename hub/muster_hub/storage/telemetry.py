"""Tables of what devices send home: windows, hours and days, events, drift, and its alerts."""

from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from muster_hub.storage.tables import (
    HEX,
    NAME,
    Rowid,
    Table,
    json_field,
    one_of,
)

AlertState = Literal["open", "acknowledged", "resolved"]
Severity = Literal["info", "warning", "critical"]
RollupLevel = Literal["hour", "day"]


class Stream(Table, table=True):
    """How far a device's stream is committed without a gap: what the hub acknowledges."""

    device: str = Field(primary_key=True, foreign_key="device.id")
    stream: str = Field(primary_key=True, max_length=16)
    epoch: str = Field(primary_key=True, max_length=32)
    contiguous: int = Field(default=0, sa_type=BigInteger)
    created: float = Field(default=0.0, index=True)
    updated: float


class Ahead(Table, table=True):
    """A committed row beyond its stream's mark: with the mark, all that a row sent again is known
    by. At most ``IN_FLIGHT_ROWS_MAX`` a stream; it goes when the mark passes it.

    So telemetry itself needs no unique key, which on PostgreSQL would have to hold the time that
    partitions go by, and a row sent again may be placed at another time than before.
    """

    __tablename__ = "telemetry_ahead"
    __table_args__ = (
        ForeignKeyConstraint(
            ["device", "stream", "epoch"],
            ["stream.device", "stream.stream", "stream.epoch"],
            ondelete="CASCADE",
        ),
    )

    device: str = Field(primary_key=True)
    stream: str = Field(primary_key=True, max_length=16)
    epoch: str = Field(primary_key=True, max_length=32)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)


class SummaryWindow(Table, table=True):
    """A committed summary row; one that couldn't be read is kept whole and says why."""

    __tablename__ = "summary_window"
    __table_args__ = (
        UniqueConstraint("device", "epoch", "sequence"),
        Index(None, "device", "model", "start"),
        Index(None, "manifest", "start"),
        Index(None, "start"),
        Index(
            "ix_summary_window_unfolded",
            "id",
            sqlite_where=text("folded IS 0"),
            postgresql_where=text("folded IS false"),
        ),
        Index(
            "ix_summary_window_unrolled",
            "start",
            sqlite_where=text("rolled IS 0"),
            postgresql_where=text("rolled IS false"),
        ),
    )
    __mapper_args__ = {"primary_key": ["id", "start"]}  # noqa: RUF012 - as SQLAlchemy asks for it
    """What a row is changed by: the time, too, names the partition that it is in."""

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    device: str = Field(foreign_key="device.id")
    epoch: str = Field(max_length=32)
    sequence: int = Field(sa_type=BigInteger)
    slot: str = Field(default="", max_length=NAME)
    model: str = ""
    version: str = ""
    manifest: str = Field(default="", max_length=HEX)
    start: float
    """Re-anchored by the hub at receipt."""
    seconds: float = 0.0
    n: int = Field(default=0, sa_type=BigInteger)
    errors: int = Field(default=0, sa_type=BigInteger)
    labels_right: int = Field(default=0, sa_type=BigInteger)
    labels_wrong: int = Field(default=0, sa_type=BigInteger)
    log_p95: float | None = None
    """Natural logarithm of the 95 % quantile of latency in seconds."""
    compared: int = Field(default=0, sa_type=BigInteger)
    """As ``summary.Tally`` counts them, and so on: of a challenger in shadow."""
    disagreed: int = Field(default=0, sa_type=BigInteger)
    compared_failed: int = Field(default=0, sa_type=BigInteger)
    compared_labelled: int = Field(default=0, sa_type=BigInteger)
    compared_right: int = Field(default=0, sa_type=BigInteger)
    compared_champion_right: int = Field(default=0, sa_type=BigInteger)
    counts: dict[str, int] = json_field(dict)
    """Those of ``summary.Tally`` that have no column here and are not zero, by name."""
    received: float
    payload: bytes
    fault: str = ""
    folded: bool = False
    """The drift monitor has taken it in."""
    rolled: bool = False
    """It is in its hour and day, too."""


class Rollup(Table, table=True):
    """An hour or a day, in UTC, of one version on one device or on the whole fleet."""

    __table_args__ = (one_of("level", get_args(RollupLevel)), Index(None, "level", "start"))

    level: str = Field(primary_key=True, max_length=8)
    device: str = Field(primary_key=True)
    """Empty: all devices together."""
    manifest: str = Field(primary_key=True, max_length=HEX)
    start: float = Field(primary_key=True)
    model: str = Field(max_length=NAME)
    version: str = Field(max_length=NAME)
    windows: int = Field(default=0, sa_type=BigInteger)
    """Rows merged, of which each may itself be merged from several windows."""
    seconds: float = 0.0
    n: int = Field(default=0, sa_type=BigInteger)
    errors: int = Field(default=0, sa_type=BigInteger)
    labels_right: int = Field(default=0, sa_type=BigInteger)
    labels_wrong: int = Field(default=0, sa_type=BigInteger)
    payload: bytes
    """The summaries merged, with exact sums."""


class EventRow(Table, table=True):
    """Something that happened: on a device (with epoch and sequence) or at the hub (without)."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("device", "epoch", "sequence"),
        Index(None, "device", "id"),
        Index(None, "manifest", "kind"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    device: str | None = Field(default=None, foreign_key="device.id")
    epoch: str | None = Field(default=None, max_length=32)
    sequence: int | None = Field(default=None, sa_type=BigInteger)
    kind: str = Field(max_length=32)
    received: float
    slot: str = ""
    model: str = ""
    version: str = ""
    manifest: str = ""
    generation: int = Field(default=0, sa_type=BigInteger)
    refusal: str | None = None
    detail: str = ""
    data: dict[str, Any] = json_field(dict)
    """The whole ``messages.Event`` as plain values, or what else a hub event says."""


class DriftState(Table, table=True):
    """The drift monitor of one model version on one device."""

    __tablename__ = "drift_state"
    __table_args__ = (
        Index(None, "manifest", "updated"),
        Index(
            "ix_drift_state_alarming",
            "updated",
            sqlite_where=text("alarming IS 1"),
            postgresql_where=text("alarming IS true"),
        ),
        Index(
            "ix_drift_state_rebaselined",
            "device",
            sqlite_where=text("rebaselines > 0"),
            postgresql_where=text("rebaselines > 0"),
        ),
    )

    device: str = Field(primary_key=True, foreign_key="device.id")
    manifest: str = Field(primary_key=True, max_length=HEX)
    state: bytes
    view: dict[str, Any] = json_field(dict)
    updated: float
    rebaselines: int = 0
    """How often an operator has called what is seen there normal; the directive says it."""
    alarming: bool = False
    """``view`` has something that an alert is about."""


class Alert(Table, table=True):
    """One trouble; ``key`` names it and is unique among alerts that aren't resolved."""

    __table_args__ = (
        one_of("state", get_args(AlertState)),
        one_of("severity", get_args(Severity)),
        Index(
            "uq_alert_key_unresolved",
            "key",
            unique=True,
            sqlite_where=text("state <> 'resolved'"),
            postgresql_where=text("state <> 'resolved'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    key: str
    device: str | None = Field(default=None, foreign_key="device.id")
    kind: str = Field(max_length=32)
    severity: str = Field(max_length=16)
    state: str = Field(max_length=16, index=True)
    opened: float
    updated: float
    cleared_at: float | None = None
    """Since when its cause is gone; it resolves after staying so."""
    told: str = Field(default="", max_length=16)
    """What receivers were told of last: opened, escalated or resolved; empty: nothing yet."""
    title: str
    detail: dict[str, Any] = json_field(dict)
