"""Policies and samples as they are shown and downloaded. Nothing here writes."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from muster_hub.access.scope import Scope
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_protocol.wire.sampling import Content, columns

EXPORT_ROWS = 500
"""Read from the database at once."""
Plain = dict[str, Any]


def policies(
    session: Session, scope: Scope, *, after: int | None, limit: int
) -> Sequence[SamplingPolicyRow]:
    """Those in scope, the newest first."""
    query = select(SamplingPolicyRow).order_by(col(SamplingPolicyRow.id).desc())
    if after is not None:
        query = query.where(col(SamplingPolicyRow.id) < after)
    found = []
    for row in session.exec(query):
        if scope.has_model(row.model) and scope.covers(row.selector):
            found.append(row)
        if len(found) >= limit:
            break
    return found


def samples(session: Session, policy: int, *, after: int, limit: int) -> Sequence[SampleRow]:
    """A policy's samples in the order in which they came."""
    query = select(SampleRow).where(SampleRow.policy == policy, col(SampleRow.id) > after)
    return session.exec(query.order_by(col(SampleRow.id)).limit(limit)).all()


def line(row: SampleRow) -> Plain:
    """A sample with what it holds: features and answers by name, each number a column."""
    content = msgspec.msgpack.decode(row.content, type=Content)
    return {
        "sha256": row.sha256,
        "device": row.device,
        "slot": row.slot,
        "taken": row.taken,
        "stratum": row.stratum,
        "label": row.label,
        "features": dict(columns(content.features)) | content.codes,
        "answers": dict(columns(content.answers)),
    }


def lines(session: Session, policy: int) -> Iterator[bytes]:
    """All samples of a policy as JSON Lines."""
    after = 0
    while rows := samples(session, policy, after=after, limit=EXPORT_ROWS):
        for row in rows:
            yield msgspec.json.encode(line(row)) + b"\n"
        after = rows[-1].id or 0
        session.expunge_all()
