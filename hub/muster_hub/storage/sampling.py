"""Tables of raw data that devices were asked for: policies, and the samples that came."""

from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from muster_hub.storage.tables import HEX, NAME, Rowid, Table, json_field, version_exists


class SamplingPolicyRow(Table, table=True):
    """What devices are asked to send of the rows that one version sees."""

    __tablename__ = "sampling_policy"
    __table_args__ = (
        version_exists(),
        Index(None, "model", "id"),
        Index(
            "ix_sampling_policy_open",
            "expires",
            sqlite_where=text("ended IS NULL"),
            postgresql_where=text("ended IS NULL"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    model: str = Field(max_length=NAME)
    version: str = Field(max_length=NAME)
    manifest: str = Field(max_length=HEX)
    selector: str = ""
    """Which devices; empty: all that run the version."""
    asked: dict[str, Any] = json_field(dict)
    """``SamplingPolicy`` as plain values."""
    bytes_max: int = Field(sa_type=BigInteger)
    """Of all samples together; then the policy ends."""
    created: float
    created_by: str
    expires: float
    reason: str = ""
    ended: float | None = None
    ended_by: str = ""
    ended_reason: str = ""
    rows: int = Field(default=0, sa_type=BigInteger)
    """Samples that came."""
    bytes: int = Field(default=0, sa_type=BigInteger)


class SampleRow(Table, table=True):
    """A sampled row; named by the SHA-256 of its content."""

    __tablename__ = "sample"
    __table_args__ = (
        UniqueConstraint("device", "epoch", "sequence"),
        Index(None, "policy", "id"),
        Index(None, "policy", "sha256"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Rowid)
    device: str = Field(foreign_key="device.id")
    epoch: str = Field(max_length=32)
    sequence: int = Field(sa_type=BigInteger)
    policy: int = Field(default=0, sa_type=BigInteger)
    """0: nothing is kept of it but that it came."""
    slot: str = Field(default="", max_length=NAME)
    manifest: str = Field(default="", max_length=HEX)
    sha256: str = Field(default="", max_length=HEX)
    stratum: str = Field(default="", max_length=16)
    taken: float = 0.0
    """Re-anchored by the hub at receipt."""
    received: float
    content: bytes = b""
    """``sampling.Content`` as the device encoded it."""
    fault: str = ""
    """Why nothing is kept; empty where something is."""
    label: str | None = Field(default=None, max_length=256)
    labelled_by: str = ""
