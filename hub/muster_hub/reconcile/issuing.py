"""Directives as they are committed: the row in force, and the message that carries it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from muster_hub.reconcile.generations import Held
from muster_hub.storage import models
from muster_hub.storage.tables import target
from muster_protocol.wire import topics


@dataclass(frozen=True)
class Issue:
    """A new directive for a device; without an envelope what it was told is taken back."""

    device: str
    revision: int
    payload: bytes = b""
    envelope: bytes = b""
    held: Held | None = None
    expires: float = 0.0


_WITHDRAW = delete(target(models.DirectiveRow)).where(
    col(models.DirectiveRow.device) == bindparam("of")
)


class _Signature(msgspec.Struct):
    keyid: str


class _Signed(msgspec.Struct):
    signatures: list[_Signature]


def signed_by(envelope: bytes) -> str:
    """The key that signed an envelope of ours: when it was rotated, devices need another."""
    return msgspec.json.decode(envelope, type=_Signed).signatures[0].keyid


def write(session: Session, issues: Sequence[Issue], now: float) -> None:
    """A directive and the message that carries it, or the end of one, in as many statements for
    many devices as for one."""
    rows = [
        {
            "device": issue.device,
            "epoch": issue.held.epoch,
            "generation": issue.held.generation,
            "content_sha256": issue.held.content_sha256,
            "payload": issue.payload,
            "envelope": issue.envelope,
            "issued": issue.held.issued,
            "expires": issue.expires,
        }
        for issue in issues
        if issue.held is not None
    ]
    gone = [{"of": issue.device} for issue in issues if issue.held is None]
    connection = session.connection()
    if rows:
        connection.execute(_PUT[connection.dialect.name], rows)
    if gone:
        connection.execute(_WITHDRAW, gone)
    if issues:
        connection.execute(
            insert(target(models.OutboxMessage)),
            [
                {
                    "topic": topics.down(issue.device, "directive"),
                    "payload": issue.envelope,
                    "retain": True,
                    "created": now,
                }
                for issue in issues
            ],
        )


def _put(dialect: Any) -> Any:
    statement = dialect.insert(target(models.DirectiveRow))
    names = ("epoch", "generation", "content_sha256", "payload", "envelope", "issued", "expires")
    return statement.on_conflict_do_update(
        index_elements=["device"], set_={name: statement.excluded[name] for name in names}
    )


_PUT = {"sqlite": _put(sqlite), "postgresql": _put(postgresql)}
