"""The ``[alerts]`` part of hub.toml: who is told of what, and how patiently."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

NoticeKind = Literal["opened", "escalated", "resolved", "digest", "retrain"]
ChannelName = Literal["webhook", "alertmanager", "email", "slack", "teams", "pagerduty", "ntfy"]
"""How a receiver is reached; each is a file in ``alerts/channels/``."""
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]


class Receiver(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One who is told, as an entry of ``[[alerts.receivers]]``."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    kind: ChannelName
    on: tuple[NoticeKind, ...] = ("opened", "escalated", "resolved")
    causes: tuple[str, ...] = ()
    """Only alerts of these kinds, such as ``drift``; empty: all."""
    url: Annotated[str, Meta(pattern=r"^(https?://.+)?$")] = ""
    """Of a webhook, or the base address of an Alertmanager, of ntfy or of PagerDuty's events."""
    secret_file: str = ""
    """A file, relative to the hub's directory, that holds a webhook's signing key, the address of
    Slack's or Teams' webhook, PagerDuty's integration key, or ntfy's access token."""
    topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    """What ntfy publishes under."""
    smtp_host: str = "localhost"
    smtp_port: Annotated[int, Meta(ge=1, le=65535)] = 25
    starttls: bool = False
    user: str = ""
    password_file: str = ""
    sender: str = "muster@localhost"
    to: tuple[str, ...] = ()


class Alerts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When alerts are told. Times in seconds."""

    receivers: Annotated[tuple[Receiver, ...], Meta(max_length=32)] = ()
    """Who is told, as ``[[alerts.receivers]]`` entries; see alerts.md."""
    group_seconds: NotNegative = 10.0
    """Wait this long after the first alert of a group, so that its others come with it."""
    escalate_seconds: Positive = 3600.0
    """An alert nobody has acknowledged for this long is told once more, as escalated."""
    digest_hour: Annotated[int, Meta(ge=0, le=23)] = 6
    """Hour of the day, UTC, of the daily digest."""
    retrain_devices: Annotated[int, Meta(ge=1)] = 1
    """Drifting devices of a model from which on retraining is asked for."""
    retrain_after_seconds: NotNegative = 3600.0
    """How long they must have drifted without a break."""
    retrain_cooldown_seconds: Positive = 86_400.0
    """At least this long between two requests for one model."""
