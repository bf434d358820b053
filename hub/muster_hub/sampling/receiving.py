"""Which samples are kept of those that come: only what an open policy asked this device for.

A device may send anything. What nobody asked for keeps its place in the stream, so that the rows
after it are acknowledged, and nothing of what it held.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from sqlmodel import Session, col, delete, select, update

from muster_hub.storage.models import Device
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_hub.storage.tables import target
from muster_protocol.wire import sampling, selectors
from muster_protocol.wire.sampling import SamplingPolicy

Columns = dict[str, Any]


def admit(session: Session, rows: Iterable[Columns], now: float) -> None:
    """Empty what may not be kept, in place, and count what is kept towards its policy."""
    listed = [row for row in rows if row["policy"]]
    if not listed:
        return
    numbers = {row["policy"] for row in listed}
    query = select(SamplingPolicyRow).where(col(SamplingPolicyRow.id).in_(numbers))
    policies = {row.id: row for row in session.exec(query)}
    names = {row["device"] for row in listed}
    labelled = select(Device.id, Device.labels).where(col(Device.id).in_(names))
    labels = dict(session.exec(labelled).all())
    kept: dict[int, list[int]] = {}
    for row in listed:
        policy = policies.get(row["policy"])
        why = _refused(row, policy, labels.get(row["device"], {}), now)
        if not why and policy is not None:
            sizes = kept.setdefault(row["policy"], [])
            if policy.bytes + sum(sizes) < policy.bytes_max:
                sizes.append(len(row["content"]))
                continue
            why = "the policy has all the bytes that it may have"
        row.update(policy=0, content=b"", sha256="", fault=why)
    for number, sizes in sorted(kept.items()):
        session.exec(
            update(target(SamplingPolicyRow))
            .where(col(SamplingPolicyRow.id) == number)
            .values(
                rows=col(SamplingPolicyRow.rows) + len(sizes),
                bytes=col(SamplingPolicyRow.bytes) + sum(sizes),
            )
        )


def _refused(
    row: Columns, policy: SamplingPolicyRow | None, labels: Mapping[str, str], now: float
) -> str:
    """Why a sample is not kept; empty: it is."""
    if policy is None:
        return "no such policy"
    if policy.ended is not None or now >= policy.expires:
        return "the policy has ended"
    if row["manifest"] != policy.manifest:
        return "of another version than the policy asks for"
    if not selectors.parse(policy.selector).matches(labels):
        return "the policy doesn't ask this device"
    asked = msgspec.convert(policy.asked, SamplingPolicy)
    content = msgspec.msgpack.decode(row["content"], type=sampling.Content)
    numbers = {name for name, privacy in asked.features.items() if privacy != "hash"}
    too_much = content.features.keys() - numbers or content.codes.keys() - asked.features.keys()
    if too_much or (content.answers and not asked.answers):
        return "holds more than the policy asks for"
    return ""


def forget_empty(session: Session, streams: Collection[tuple[str, str, int]]) -> None:
    """Let go of rows that hold nothing, up to each stream's mark: (device, epoch, mark)."""
    for device, epoch, mark in sorted(streams):
        session.exec(
            delete(SampleRow).where(
                col(SampleRow.device) == device,
                col(SampleRow.epoch) == epoch,
                col(SampleRow.sequence) <= mark,
                col(SampleRow.policy) == 0,
            )
        )
