"""Tables of what devices should run, and of rollouts that get them there."""

from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    Index,
    UniqueConstraint,
)
from sqlmodel import Field

from muster_hub.storage.tables import (
    HEX,
    NAME,
    Rowid,
    Table,
    json_field,
    one_of,
    optional_json_field,
    version_exists,
)

RolloutState = Literal["running", "paused", "stopped", "aborted", "completed", "rolled_back"]
RolloutDeviceState = Literal["targeted", "in_progress", "committed", "failed", "withdrawn"]


class Rollout(Table, table=True):
    """A rollout: its plan, how far it is, and what its gate said last."""

    __table_args__ = (one_of("state", get_args(RolloutState)), version_exists())

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
    """The kind of reason, as in ``decide.Why``, or what an operator did."""
    reason: str
    devices: list[str] = json_field(list)
    """Newly asked."""


class RolloutDevice(Table, table=True):
    """How far a rollout has come with one device."""

    __tablename__ = "rollout_device"
    __table_args__ = (
        one_of("state", get_args(RolloutDeviceState)),
        Index(None, "rollout", "state"),
    )

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

    __table_args__ = (UniqueConstraint("slot", "selector"), version_exists())

    id: int | None = Field(default=None, primary_key=True)
    slot: str = Field(max_length=NAME)
    selector: str
    model: str
    version: str
    precedence: int = Field(unique=True)
    window_seconds: float | None = None
    rollout: int | None = Field(default=None, foreign_key="rollout.id")
    created: float


class Revision(Table, table=True):
    """The number of the latest change of a kind; ``storage.changes`` gives them out."""

    name: str = Field(primary_key=True, max_length=NAME)
    number: int = Field(sa_type=BigInteger)


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
