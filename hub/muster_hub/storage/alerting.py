"""Tables about alerts' receivers: webhooks, silences, deliveries under way, what was asked when."""

from sqlalchemy import Index, text
from sqlmodel import Field

from muster_hub.storage.tables import Table, json_field


class Silence(Table, table=True):
    """No alert of a matching device is told until ``until``; it is still opened and listed."""

    id: int | None = Field(default=None, primary_key=True)
    selector: str = ""
    """Empty: every alert."""
    until: float = Field(index=True)
    reason: str = ""
    by: str
    created: float


class Webhook(Table, table=True):
    """Somebody who is told of alerts, made through the API; others are in hub.toml."""

    name: str = Field(primary_key=True, max_length=48)
    url: str = Field(max_length=2048)
    notices: list[str] = json_field(list)
    causes: list[str] = json_field(list)
    """Only alerts of these kinds; empty: all."""
    secret: bytes
    """Sealed with a key that is not in the database."""
    secret_made: float
    created: float
    created_by: str
    tried: float | None = None
    """When something was last delivered, or could not be: then ``fault`` says why."""
    fault: str = ""


class WebhookDelivery(Table, table=True):
    """Something to tell one receiver, decided with its alerts and sent after."""

    __tablename__ = "delivery"
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
    """A name in hub.toml, or ``webhook/<name>``."""
    body: bytes
    created: float
    due: float
    attempts: int = 0
    ended: float | None = Field(default=None, index=True)
    """When it was taken, or given up: then ``fault`` says why."""
    fault: str = ""


class NotifierState(Table, table=True):
    """What is remembered between two looks: the last digest, each model's retraining."""

    __tablename__ = "telling"

    name: str = Field(primary_key=True, max_length=128)
    """``digest`` or ``retrain/<model>``."""
    since: float | None = None
    at: float | None = None
    armed: bool = True
