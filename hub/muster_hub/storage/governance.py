"""Tables of who may do what: people, answers kept for retries, where the audit log was archived."""

from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from muster_hub.storage.tables import Table, json_field, one_of

ROLES = ("viewer", "operator", "releaser", "admin")
NAME_CHARS_MAX = 64


class Person(Table, table=True):
    """Somebody the configured identity provider vouches for, and what they may do here."""

    __table_args__ = (one_of("role", ROLES),)

    name: str = Field(primary_key=True, max_length=255)
    """The value of the claim that names people, e.g. their e-mail address."""
    role: str = Field(max_length=16)
    models: list[str] = json_field(list)
    """Model names the role is limited to; a ``*`` at the end stands for any rest. Empty: all."""
    selector: str = ""
    """Devices the role is limited to; empty: all."""
    created: float
    created_by: str


class KeptAnswer(Table, table=True):
    """The answer to a request with an ``Idempotency-Key``, for whoever repeats it."""

    __tablename__ = "kept_answer"
    __table_args__ = (Index(None, "created"),)

    key: str = Field(primary_key=True, max_length=64)
    """SHA-256 over who asks and the key they chose."""
    request_sha256: str = Field(max_length=64)
    status: int
    """0 while the first request is under way."""
    headers: dict[str, Any] = json_field(dict)
    body: bytes = b""
    created: float


class AuditAnchor(Table, table=True):
    """Where archived rows of the audit log end, and the rows that are here go on."""

    __tablename__ = "audit_anchor"

    rows: int = Field(primary_key=True, sa_type=BigInteger)
    """Archived in all, those of earlier archives included."""
    at: float
    previous: str = Field(max_length=64, unique=True)
    """The hash of the last row before this archive."""
    latest: str = Field(max_length=64, unique=True)
    file_sha256: str = Field(max_length=64)
    seal: bytes
    """Over all of the above, by a key that is not in the database."""


class SignInLink(Table, table=True):
    """A link that signs somebody in to the console once; the row goes when it is used."""

    __tablename__ = "sign_in_link"
    __table_args__ = (one_of("role", ROLES),)

    hash: str = Field(primary_key=True, max_length=64)
    """SHA-256 of the code in the link, which is kept nowhere."""
    name: str = Field(max_length=64)
    """Of the token that its session gets."""
    role: str = Field(max_length=16)
    owner: str = Field(max_length=255)
    created: float
    created_by: str
    expires: float
