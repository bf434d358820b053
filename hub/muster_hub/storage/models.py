"""The hub's tables. What must be unique is unique here, in the database, not only in code.

Two things are called epoch, as in the protocol: a stream's (hexadecimal, made with the device's
outbox) and the director's (an integer signed in the targets role). Times are seconds since 1970.
"""

from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from muster_hub.settings.roles import Role
from muster_hub.storage import alerting, governance, quarantine  # noqa: F401 - fill METADATA
from muster_hub.storage.tables import Table, json_field, one_of, optional_json_field

VersionStatus = Literal[
    "uploaded", "checking", "awaiting_approval", "checked", "awaiting_signatures", "rejected",
    "signed", "published", "retired",
]  # fmt: skip
RolloutState = Literal["running", "paused", "stopped", "aborted", "completed", "rolled_back"]
RolloutDeviceState = Literal["targeted", "in_progress", "committed", "failed", "withdrawn"]
AlertState = Literal["open", "acknowledged", "resolved"]
Severity = Literal["info", "warning", "critical"]
RollupLevel = Literal["hour", "day"]

Rowid = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column declared INTEGER."""

NAME = 64
HEX = 64


def _version_exists() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["model", "version"], ["version.model", "version.version"])


class Device(Table, table=True):
    """A device: its identity, and the state it last reported."""

    id: str = Field(primary_key=True, max_length=NAME)
    labels: dict[str, str] = json_field(dict)
    created: float
    approved: bool = True
    revoked: bool = False
    certificate_expires: float | None = None
    """Of the newest; all of them are in ``certificate``."""
    online: bool = False
    online_changed: float | None = Field(default=None, index=True)
    last_seen: float | None = Field(default=None, index=True)
    reported: float | None = None
    """When the latest report came."""
    report: dict[str, Any] | None = optional_json_field()
    """``messages.Report`` as plain values."""
    late_from: float | None = None
    """From when on metadata that its report names should have been replaced by newer ones."""
    set_aside: int = Field(default=0, sa_type=BigInteger)
    """Messages of its that could not be taken; a few of them are in ``set_aside``."""
    set_aside_at: float | None = Field(default=None, index=True)
    """When the latest of them came."""
    set_aside_fault: str = ""


class Certificate(Table, table=True):
    """Every certificate a device was given; the CRL lists those revoked and not yet expired."""

    serial: str = Field(primary_key=True, max_length=HEX)
    device: str = Field(foreign_key="device.id", index=True)
    key_fingerprint: str = Field(max_length=HEX)
    pem: str
    issued: float
    expires: float
    revoked: float | None = None


class EnrolToken(Table, table=True):
    """Permission to enrol ``uses_left`` more devices; only the secret's hash is kept."""

    __tablename__ = "enrol_token"
    __table_args__ = (CheckConstraint("uses_left >= 0", name="uses_left"),)

    id: str = Field(primary_key=True, max_length=32)
    secret_hash: str = Field(max_length=HEX)
    labels: dict[str, str] = json_field(dict)
    device: str | None = Field(default=None, max_length=NAME)
    """The only device id it is good for, when set."""
    selector: str = ""
    """What its maker was limited to: no known device outside of it may return with it."""
    approval: bool = False
    """Devices that come with it get nothing to run before an operator approves each."""
    uses_left: int
    created: float
    expires: float


class EnrolBinding(Table, table=True):
    """The key that a use of a token was spent on: it may retry until the token expires."""

    __tablename__ = "enrol_binding"
    __table_args__ = (UniqueConstraint("token", "device"),)

    token: str = Field(primary_key=True, foreign_key="enrol_token.id")
    key_fingerprint: str = Field(primary_key=True, max_length=HEX)
    device: str = Field(foreign_key="device.id")


class Model(Table, table=True):
    name: str = Field(primary_key=True, max_length=NAME)
    created: float


class Version(Table, table=True):
    """An immutable release of a model; ``manifest`` is the exact bytes that are signed."""

    __table_args__ = (one_of("status", get_args(VersionStatus)),)

    model: str = Field(primary_key=True, foreign_key="model.name")
    version: str = Field(primary_key=True, max_length=NAME)
    manifest_sha256: str = Field(max_length=HEX, unique=True)
    manifest: bytes
    status: str = Field(max_length=20)
    check: dict[str, Any] = json_field(dict)
    """What the release check found: ``{"ok", "reason", "builds": {runtime: {...}}}``."""
    lineage: dict[str, Any] = json_field(dict)
    size_bytes: int = Field(sa_type=BigInteger)
    created: float
    created_by: str


class Rollout(Table, table=True):
    __table_args__ = (one_of("state", get_args(RolloutState)), _version_exists())

    id: int | None = Field(default=None, primary_key=True)
    model: str
    version: str
    manifest: str = Field(max_length=HEX)
    slot: str = Field(max_length=NAME)
    selector: str
    state: str = Field(max_length=16, index=True)
    plan: dict[str, Any] = json_field(dict)
    wave: int = 0
    wave_since: float | None = None
    """When the present wave's first device was asked."""
    approved: int = -1
    """The last wave that an operator has let begin."""
    advanced: int = -1
    """The last wave that an operator has passed by hand."""
    settled_at: float | None = None
    looked_at: float | None = None
    judged: dict[str, Any] | None = optional_json_field()
    """The gate's latest verdict: ``{"wave", "look", "action", "reason"}``."""
    shadow: dict[str, Any] | None = optional_json_field()
    """Since it began: ``{"devices", "since", "look", "action", "reason"}``."""
    replaced: dict[str, Any] | None = optional_json_field()
    """What its assignment held before it completed: ``{"model", "version", "rollout"}``."""
    window_seconds: float | None = None
    reason: str = ""
    created: float
    created_by: str
    updated: float


class RolloutStep(Table, table=True):
    """What a rollout did or came to wait for, and why in words: its history."""

    __tablename__ = "rollout_step"

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    rollout: int = Field(foreign_key="rollout.id", index=True)
    at: float
    state: str = Field(max_length=16)
    wave: int
    why: str = Field(max_length=16)
    """The kind of reason, as in ``domain.rollouts.Why``, or what an operator did."""
    reason: str
    devices: list[str] = json_field(list)
    """Newly asked."""


class RolloutDevice(Table, table=True):
    __tablename__ = "rollout_device"
    __table_args__ = (one_of("state", get_args(RolloutDeviceState)),)

    rollout: int = Field(primary_key=True, foreign_key="rollout.id")
    device: str = Field(primary_key=True, foreign_key="device.id", index=True)
    wave: int
    state: str = Field(max_length=16)
    generation: int = Field(default=0, sa_type=BigInteger)
    """Of the directive that asked for this version; 0 before there was one."""
    targeted_at: float
    online_since: float | None = None
    """When its present stretch online began: the time-out clock runs only then."""
    online_seconds: float = 0.0
    """Spent online under way in earlier stretches."""
    changed_at: float
    detail: str = ""


class MetricValue(Table, table=True):
    """A number that the operator's own systems posted for a rollout's custom metric."""

    __tablename__ = "metric_value"

    rollout: int = Field(primary_key=True, foreign_key="rollout.id")
    metric: str = Field(primary_key=True, max_length=NAME)
    device: str = Field(primary_key=True, foreign_key="device.id")
    at: float = Field(primary_key=True)
    value: float


class Assignment(Table, table=True):
    """Selector → version in a slot. Of several that match a device the highest number wins."""

    __table_args__ = (UniqueConstraint("slot", "selector"), _version_exists())

    id: int | None = Field(default=None, primary_key=True)
    slot: str = Field(max_length=NAME)
    selector: str
    model: str
    version: str
    precedence: int = Field(unique=True)
    window_seconds: float | None = None
    rollout: int | None = Field(default=None, foreign_key="rollout.id")
    created: float


class SwapGrant(Table, table=True):
    """The latest request of a device for a permit to swap a slot, and what it was last given."""

    __tablename__ = "swap_grant"

    device: str = Field(primary_key=True, foreign_key="device.id")
    slot: str = Field(primary_key=True, max_length=NAME)
    nonce: str = Field(max_length=32)
    manifest: str = Field(max_length=HEX)
    generation: int = Field(sa_type=BigInteger)
    asked_at: float
    answered: bool = Field(default=False, index=True)
    given_at: float | None = None
    """While set, the device counts as down until it shows that it is through."""
    given_manifest: str = Field(default="", max_length=HEX)
    reason: str = ""
    """Why a permit was refused last."""


class Lease(Table, table=True):
    """Who alone may act in a role, such as the engine, and until when unless renewed."""

    name: str = Field(primary_key=True, max_length=32)
    holder: str
    expires: float


class DirectiveRow(Table, table=True):
    """The directive in force for a device, and the envelope that proves it."""

    __tablename__ = "directive"

    device: str = Field(primary_key=True, foreign_key="device.id")
    epoch: int = Field(sa_type=BigInteger)
    generation: int = Field(sa_type=BigInteger)
    content_sha256: str = Field(max_length=HEX)
    """Of what it says apart from generation and times: unchanged content needs no new one."""
    payload: bytes
    envelope: bytes
    issued: float
    expires: float


class OutboxMessage(Table, table=True):
    """A message decided in a transaction, published after it."""

    __tablename__ = "outbox_message"
    __table_args__ = (
        Index(
            "ix_outbox_message_waiting",
            "id",
            sqlite_where=text("published_at IS NULL"),
            postgresql_where=text("published_at IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    topic: str
    payload: bytes
    retain: bool
    expiry_seconds: int | None = None
    created: float
    published_at: float | None = None


class Stream(Table, table=True):
    """How far a device's stream is committed without a gap: what the hub acknowledges."""

    device: str = Field(primary_key=True, foreign_key="device.id")
    stream: str = Field(primary_key=True, max_length=16)
    epoch: str = Field(primary_key=True, max_length=32)
    contiguous: int = Field(default=0, sa_type=BigInteger)
    created: float = Field(default=0.0, index=True)
    updated: float


class SummaryWindow(Table, table=True):
    """A committed summary row; one that couldn't be read is kept whole and says why."""

    __tablename__ = "summary_window"
    __table_args__ = (
        UniqueConstraint("device", "epoch", "sequence"),
        Index(None, "device", "model", "start"),
        Index(None, "manifest", "start"),
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

    device: str = Field(primary_key=True, foreign_key="device.id")
    manifest: str = Field(primary_key=True, max_length=HEX)
    state: bytes
    view: dict[str, Any] = json_field(dict)
    updated: float
    rebaselines: int = 0
    """How often an operator has called what is seen there normal; the directive says it."""


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


class ApiToken(Table, table=True):
    """An API token; only its hash is kept."""

    __tablename__ = "api_token"
    __table_args__ = (one_of("role", get_args(Role)),)

    hash: str = Field(primary_key=True, max_length=HEX)
    id: str = Field(max_length=16, unique=True)
    """What lists and the audit log call it."""
    name: str = Field(max_length=NAME)
    role: str = Field(max_length=16)
    models: list[str] = json_field(list)
    """Model names the role is limited to; a ``*`` at the end stands for any rest. Empty: all."""
    selector: str = ""
    """Devices the role is limited to; empty: all."""
    created: float
    created_by: str = "hub"
    owner: str = Field(default="", max_length=255)
    """The person who holds it: one, however many tokens they have."""
    expires: float | None = None
    revoked: float | None = None


class Audit(Table, table=True):
    """Who did what, each row sealed to the one before; a fork of the chain can't be stored."""

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = json_field(dict)
    previous: str = Field(max_length=HEX, unique=True)
    hash: str = Field(max_length=HEX, unique=True)
    code: str = Field(default="", max_length=HEX)
    """HMAC over the hash; empty in rows written before the log was keyed."""
