"""Sampling policies as rows: begun within what release keys signed, ended, deleted. In the caller's
session. A device holds each policy to its signed release by itself, whatever stands here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlmodel import Session, col, delete, func, select

from muster_hub.audit import log
from muster_hub.errors import Conflict, Invalid
from muster_hub.registry import bundle
from muster_hub.registry.release import find
from muster_hub.sampling.asked import OpenPolicy
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_protocol.wire import limits, manifest, sampling, selectors
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.sampling import SamplingLimits, SamplingPolicy

DAY_SECONDS = 86_400.0
DAYS_MAX = 366.0
OPEN_MAX = 200
"""Policies that may be open at once: each device's directive is decided by all of them."""
BYTES_MAX = 256 * limits.MIB
"""Of one policy's samples, where nobody says less."""
POLICY_BYTES_MAX = 4 * limits.KIB
SIGNED = ("signed", "published")
HUB = "hub"


def limits_of(parsed: Manifest, read: Callable[[str], bytes]) -> SamplingLimits | None:
    """What a version's release lets be sampled; None: nothing. ``read`` fetches the hub's blobs.
    Raises ProtocolError for a file that says nothing usable.
    """
    if all(file.path != sampling.FILE for file in parsed.files):
        return None
    file = parsed.file(sampling.FILE)
    found = sampling.decode_limits(b"".join(read(name) for name in bundle.chunks_of(file, read)))
    sampling.check_limits(found, parsed)
    return found


def begin(
    session: Session,
    read: Callable[[str], bytes],
    *,
    model: str,
    version: str,
    selector: str,
    asked: Mapping[str, Any],
    days: float,
    bytes_max: int,
    by: str,
    now: float,
    reason: str = "",
) -> SamplingPolicyRow:
    """Ask devices for rows. Raises NotFound, Conflict, and Invalid for what no release allows."""
    found = find(session, model, version)
    if found.status not in SIGNED:
        raise Conflict(f"{model} {version} is {found.status}: no device runs it")
    count = select(func.count()).select_from(SamplingPolicyRow)
    if session.exec(count.where(col(SamplingPolicyRow.ended).is_(None))).one() >= OPEN_MAX:
        raise Conflict(f"{OPEN_MAX} sampling policies are open, the most there may be: end one")
    expires = now + days * DAY_SECONDS
    row = SamplingPolicyRow(
        model=model,
        version=version,
        manifest=found.manifest_sha256,
        selector=str(selectors.parse(selector)),
        bytes_max=bytes_max,
        created=now,
        created_by=by,
        expires=expires,
        reason=reason,
    )
    session.add(row)
    session.flush()
    policy = _policy({**asked, "policy": str(row.id), "expires": int(expires)})
    why = sampling.excess(policy, limits_of(manifest.decode(found.manifest), read))
    if why:
        raise Invalid(f"{model} {version}: {why}")
    if (size := len(msgspec.json.encode(policy))) > POLICY_BYTES_MAX:
        raise Invalid(
            f"the sampling policy is {size} bytes, a directive has room for {POLICY_BYTES_MAX}: "
            "name fewer features"
        )
    row.asked = msgspec.to_builtins(policy)
    session.add(row)
    _record(
        session, row, by, "sampling.begin", now, version=version, selector=row.selector,
        asked=row.asked, reason=reason,
    )  # fmt: skip
    return row


def _policy(asked: Mapping[str, Any]) -> SamplingPolicy:
    try:
        return msgspec.convert(asked, SamplingPolicy)
    except msgspec.ValidationError as error:
        raise Invalid(f"the sampling policy: {error}") from None


def end(session: Session, row: SamplingPolicyRow, *, by: str, now: float, reason: str) -> None:
    """Ask for no more rows: devices delete what waits there. Raises Conflict when it has ended."""
    if row.ended is not None:
        raise Conflict(f"sampling policy {row.id} has ended")
    row.ended, row.ended_by, row.ended_reason = now, by, reason
    session.add(row)
    _record(session, row, by, "sampling.end", now, reason=reason)


def forget(session: Session, row: SamplingPolicyRow, *, by: str, now: float) -> int:
    """End a policy and delete its samples here; how many. What it asked for stays on record."""
    if row.ended is None:
        end(session, row, by=by, now=now, reason="its samples were deleted")
    gone = session.exec(delete(SampleRow).where(col(SampleRow.policy) == row.id)).rowcount
    _record(session, row, by, "sampling.forget", now, samples=gone)
    return int(gone)


def expire(session: Session, now: float) -> int:
    """End what has expired or has all that it may have; how many."""
    query = select(SamplingPolicyRow).where(col(SamplingPolicyRow.ended).is_(None))
    ended = 0
    for row in session.exec(query).all():
        why = "expired" if now >= row.expires else "full" if row.bytes >= row.bytes_max else ""
        if why:
            end(session, row, by=HUB, now=now, reason=why)
            ended += 1
    return ended


def is_due(session: Session, now: float) -> bool:
    """Whether one has expired or is full; reads only."""
    row = SamplingPolicyRow
    over = (col(row.expires) <= now) | (col(row.bytes) >= col(row.bytes_max))
    query = select(row.id).where(col(row.ended).is_(None), over).limit(1)
    return session.exec(query).first() is not None


def wanted(session: Session) -> Sequence[OpenPolicy]:
    """Open policies, the newest first: of several for a device the newest counts."""
    query = select(SamplingPolicyRow).where(col(SamplingPolicyRow.ended).is_(None))
    return tuple(
        OpenPolicy(row.id or 0, row.manifest, selectors.parse(row.selector), _policy(row.asked))
        for row in session.exec(query.order_by(col(SamplingPolicyRow.id).desc()))
    )


def _record(
    session: Session, row: SamplingPolicyRow, by: str, action: str, now: float, **detail: Any
) -> None:
    subject = f"sampling/{row.id}"
    log.append(
        session, actor=by, action=action, subject=subject, now=now, model=row.model, **detail
    )
