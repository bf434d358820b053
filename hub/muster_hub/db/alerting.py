"""Tables of telling alerts: silences, deliveries that wait, and what was asked for when."""

from sqlalchemy import Index, text
from sqlmodel import Field

from muster_hub.db.tables import Table


class Silence(Table, table=True):
    """No alert of a matching device is told until ``until``; it is still opened and listed."""

    id: int | None = Field(default=None, primary_key=True)
    selector: str = ""
    """Empty: every alert."""
    until: float = Field(index=True)
    reason: str = ""
    by: str
    created: float


class Delivery(Table, table=True):
    """Something to tell one receiver, decided with its alerts and sent after."""

    __table_args__ = (
        Index(
            "ix_delivery_waiting",
            "due",
            sqlite_where=text("ended IS NULL"),
            postgresql_where=text("ended IS NULL"),
        ),
    )

    id: str = Field(primary_key=True, max_length=32)
    """The same at every attempt: what receivers tell repeats by."""
    receiver: str = Field(max_length=64)
    body: bytes
    created: float
    due: float
    attempts: int = 0
    ended: float | None = Field(default=None, index=True)
    """When it was taken, or given up: then ``fault`` says why."""
    fault: str = ""


class Telling(Table, table=True):
    """What is remembered between two looks: the last digest, each model's retraining."""

    name: str = Field(primary_key=True, max_length=128)
    """``digest`` or ``retrain/<model>``."""
    since: float | None = None
    at: float | None = None
    armed: bool = True
