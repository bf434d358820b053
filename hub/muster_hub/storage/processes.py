"""The processes that are one hub, and whose database this is."""

from sqlmodel import Field

from muster_hub.storage.tables import HEX, Table


class Process(Table, table=True):
    """A process that lives, or did until it was last ``seen``."""

    id: str = Field(primary_key=True, max_length=HEX)
    parts: str = Field(max_length=64)
    host: str
    directory: str
    began: float
    seen: float
    beats: int = 0
    """How often it was seen; its file in the hub's directory counts along."""
    ingest: int | None = Field(default=None, unique=True)
    """Its number among those that take in what devices say; its name at the broker has it."""
    listening_seconds: float = 0.0


class Home(Table, table=True):
    """One row: the hub whose database this is, by the first root that its devices trust."""

    id: int = Field(primary_key=True)
    root_sha256: str = Field(max_length=HEX)
