"""The hub's tables. What must be unique is unique here, in the database, not only in code.

Two things are called epoch, as in the protocol: a stream's (hexadecimal, made with the device's
outbox) and the director's (an integer signed in the targets role). Times are seconds since 1970.

Devices, versions and what is signed for them stand here; all tables are found here by name.
"""

from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from muster_hub.settings.roles import Role
from muster_hub.storage import (  # noqa: F401 - fill METADATA
    alerting,
    feeds,
    governance,
    processes,
    quarantine,
    registry,
    sampling,
)
from muster_hub.storage.staging import (
    Assignment,
    MetricValue,
    Revision,
    Rollout,
    RolloutDevice,
    RolloutDeviceState,
    RolloutState,
    RolloutStep,
    SwapGrant,
)
from muster_hub.storage.tables import (
    HEX,
    NAME,
    Rowid,
    Table,
    json_field,
    one_of,
    optional_json_field,
)
from muster_hub.storage.telemetry import (
    Ahead,
    Alert,
    AlertState,
    DriftState,
    EventRow,
    Rollup,
    RollupLevel,
    Severity,
    Stream,
    SummaryWindow,
)

__all__ = [
    "Ahead",
    "Alert",
    "AlertState",
    "ApiToken",
    "Assignment",
    "Audit",
    "Certificate",
    "Device",
    "DirectiveRow",
    "DriftState",
    "EnrolBinding",
    "EnrolToken",
    "EventRow",
    "Lease",
    "MetricValue",
    "Model",
    "OutboxMessage",
    "Revision",
    "Rollout",
    "RolloutDevice",
    "RolloutDeviceState",
    "RolloutState",
    "RolloutStep",
    "Rollup",
    "RollupLevel",
    "Severity",
    "Stream",
    "SummaryWindow",
    "SwapGrant",
    "Version",
    "VersionStatus",
]

VersionStatus = Literal[
    "uploaded", "checking", "awaiting_approval", "checked", "awaiting_signatures", "rejected",
    "signed", "published", "retired",
]  # fmt: skip


class Device(Table, table=True):
    """A device: its identity, and the state it last reported."""

    id: str = Field(primary_key=True, max_length=NAME)
    labels: dict[str, str] = json_field(dict)
    created: float
    approved: bool = True
    revoked: bool = False
    certificate_expires: float | None = Field(default=None, index=True)
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
    retries: dict[str, int] = json_field(dict)
    """Slot → how often an operator has asked for a fresh try at what it should hold."""
    diagnoses: int = 0
    """How often an operator has asked what is wrong on it."""
    deleted: float | None = None
    """When it was taken off every list. Its row stays as long as its certificates do."""
    restarts: int = 0
    """How often an operator has asked that its agent starts anew."""
    restart_until: float | None = None
    """Until when it may obey the latest such request."""
    log_watches: int = 0
    """How often somebody has begun to watch its log."""
    log_watched: float | None = None
    """When somebody did so last."""
    feed_watches: int = 0
    """How often somebody has begun to watch its feeds."""
    feed_watched: float | None = None
    """When somebody did so last."""
    feeds: dict[str, Any] | None = optional_json_field()
    """What it told of its feeds last; see ``fleet.feed_watching``."""
    revision: int = Field(default=0, sa_type=BigInteger, index=True)
    """Of its latest change by anyone but itself; see ``storage.changes``."""


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
    """A model that has versions."""

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


class Lease(Table, table=True):
    """Who alone may act in a role, such as the engine, and until when unless renewed.

    The epoch rises whenever the role goes to somebody, and never goes back.
    """

    name: str = Field(primary_key=True, max_length=32)
    holder: str
    expires: float
    epoch: int = 0


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
    published_at: float | None = Field(default=None, index=True)


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
