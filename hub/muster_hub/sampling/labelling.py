"""What people, or another system, say that the right answers to samples are."""

from collections.abc import Mapping

from sqlmodel import Session, col, update

from muster_hub.audit import log
from muster_hub.storage.sampling import SampleRow, SamplingPolicyRow
from muster_hub.storage.tables import target

LABELS_MAX = 5_000
"""In one request."""


def put(
    session: Session, policy: SamplingPolicyRow, labels: Mapping[str, str], *, by: str, now: float
) -> int:
    """Label samples by their SHA-256; how many samples have a label by it now. A name that the
    policy has no sample of is passed over: it may have been deleted.
    """
    done = 0
    for sha256, label in sorted(labels.items()):
        done += session.exec(
            update(target(SampleRow))
            .where(col(SampleRow.policy) == policy.id, col(SampleRow.sha256) == sha256)
            .values(label=label, labelled_by=by)
        ).rowcount
    log.append(
        session, actor=by, action="sampling.label", subject=f"sampling/{policy.id}", now=now,
        model=policy.model, samples=done,
    )  # fmt: skip
    return done
