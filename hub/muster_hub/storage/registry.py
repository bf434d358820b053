"""Tables of the registry beside models and versions: names, policies, sources, loops."""

from typing import Any, get_args

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from muster_hub.settings.loop import LoopState
from muster_hub.storage.tables import NAME, Rowid, Table, json_field, one_of, version_exists


class ModelAlias(Table, table=True):
    """A name such as ``champion`` that stands for one version of a model at a time."""

    __tablename__ = "model_alias"
    __table_args__ = (version_exists(),)

    model: str = Field(primary_key=True, max_length=NAME)
    alias: str = Field(primary_key=True, max_length=NAME)
    version: str = Field(max_length=NAME)
    since: float
    by: str


class AliasChange(Table, table=True):
    """Each time that an alias got another version, or was taken away."""

    __tablename__ = "alias_change"
    __table_args__ = (Index(None, "model", "id"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    model: str = Field(foreign_key="model.name")
    alias: str = Field(max_length=NAME)
    version: str | None = Field(default=None, max_length=NAME)
    """None: the alias was taken away."""
    at: float
    by: str
    reason: str = ""


class ReleasePolicy(Table, table=True):
    """The gates that a model's versions must pass before they may be signed."""

    __tablename__ = "release_policy"

    model: str = Field(primary_key=True, max_length=NAME)
    """It may be declared before there is such a model."""
    gates: list[dict[str, Any]] = json_field(list)
    updated: float
    by: str


class ModelSource(Table, table=True):
    """Something outside that is looked at for new versions, by a process beside the hub."""

    __tablename__ = "model_source"
    __table_args__ = (UniqueConstraint("uri"),)

    id: int | None = Field(default=None, primary_key=True)
    uri: str = Field(max_length=512)
    model: str = Field(max_length=NAME)
    every_seconds: float
    options: dict[str, Any] = json_field(dict)
    """Of packing."""
    created: float
    created_by: str
    looked: float | None = None
    identity: str = ""
    """What stood there the last time."""
    version: str = Field(default="", max_length=NAME)
    """Under which that was pushed."""
    fault: str = ""
    """Why the last look failed; empty: it didn't."""


class LoopRow(Table, table=True):
    """One way from drift to a better model. At most one of a model is open."""

    __tablename__ = "loop"
    __table_args__ = (
        one_of("state", get_args(LoopState)),
        Index(
            "uq_loop_model_open",
            "model",
            unique=True,
            sqlite_where=text("ended IS NULL"),
            postgresql_where=text("ended IS NULL"),
        ),
        Index(None, "model", "opened"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    model: str = Field(max_length=NAME)
    state: str = Field(max_length=16)
    opened: float
    since: float
    """When it entered the state."""
    deadline: float
    """When the state must have been left."""
    cause: str
    """Why it was opened, in words."""
    opened_by: str
    detail: dict[str, Any] = json_field(dict)
    """What was known when it was opened: devices and features that drift."""
    approved_by: str = ""
    pipeline: str = Field(default="", max_length=16)
    run: str = Field(default="", max_length=256)
    """What the orchestrator calls the run; empty: none was started."""
    run_state: str = Field(default="", max_length=16)
    run_url: str = Field(default="", max_length=2048)
    run_fault: str = ""
    """Why the last attempt to start or ask failed."""
    run_due: float = 0.0
    """When to start or ask next."""
    attempts: int = 0
    version: str = Field(default="", max_length=NAME)
    """The candidate."""
    rollout: int | None = Field(default=None, sa_type=BigInteger)
    reason: str = ""
    """Why it is in its state."""
    ended: float | None = None
    history: list[dict[str, Any]] = json_field(list)
