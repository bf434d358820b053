"""The table of what devices sent and the hub could not take: a sample, for who looks into it."""

from sqlalchemy import Index
from sqlmodel import Field

from muster_hub.storage.tables import Table

FAULT_CHARS_MAX = 500
PAYLOAD_BYTES_KEPT = 4096
ROWS_PER_DEVICE_MAX = 20
ROWS_MAX = 2_000


class SetAside(Table, table=True):
    """A message that could not be read or kept, under the device whose topic it came on."""

    __tablename__ = "set_aside"
    __table_args__ = (Index(None, "device", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    device: str = Field(foreign_key="device.id", max_length=64)
    leaf: str = Field(max_length=16)
    """Of its topic, or what of the hub's own it failed in."""
    received: float
    fault: str = Field(max_length=FAULT_CHARS_MAX)
    size_bytes: int
    payload: bytes
    """Its first bytes."""
