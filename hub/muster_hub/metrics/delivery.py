"""How delivery itself does: from a push to the fleet, and what it took to be told that all is not
well. Nothing here writes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import Session, col, func, select

from muster_hub.storage.models import (
    Alert,
    Audit,
    Device,
    EventRow,
    Rollout,
    RolloutDevice,
    RolloutStep,
    Rollup,
    SummaryWindow,
    Version,
)
from muster_hub.storage.sums import total
from muster_protocol.wire import agent_release

DAY_SECONDS = 86_400.0
MONTH_DAYS = 30.0
RELEASES_MAX = 1_000
"""Of a period, the newest."""
WINDOWS_SAMPLED = 1_000
"""The newest, by which the bytes of an inference's summary are estimated."""
ENDS = ("stopped", "aborted", "rolled_back")
Outcome = Literal["refused", "taken_back", "delivered", "under_way", "not_rolled_out"]
"""Of a release: refused by the hub before a device heard of it; taken back after one had it; on all
devices of a rollout; in a rollout now; or none of these."""
ACTED = ("alert.acknowledge", "alert.resolve")
_BYTES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2,
          "UINT64": 8, "INT64": 8, "FP64": 8}  # fmt: skip


@dataclass
class ReleaseStory:
    """What became of a version that was pushed in the period. Times in seconds since 1970."""

    model: str
    version: str
    pushed: float
    outcome: Outcome
    delivered: float | None = None
    """When the first rollout of it was complete."""
    lead_seconds: float | None = None
    taken_back: float | None = None
    """When a rollout of it was stopped, aborted or rolled back."""
    exposed_seconds: float | None = None
    """From that rollout's start to its end."""
    back_seconds: float | None = None
    """From then to the last of its devices saying that it runs something else again."""


@dataclass
class DeliveryReading:
    """A period in numbers; None where there is nothing to say it from."""

    days: float
    releases: list[ReleaseStory] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    lead_seconds: float | None = None
    """Median, from a push to the end of its first complete rollout."""
    exposed_seconds: float | None = None
    """Median, from the start of a rollout that went wrong to the decision to end it."""
    back_seconds: float | None = None
    """Median, from that decision to the last device."""
    devices: int = 0
    alerts: int = 0
    alerts_acted: int = 0
    alerts_per_device_month: float | None = None
    inferences: float = 0.0
    bytes_sent: float | None = None
    """What their summaries took, estimated from the newest ones."""
    bytes_raw: float | None = None
    """What their inputs and outputs would have taken."""
    joules_saved: float | None = None
    """What devices' radios didn't spend on the difference, estimated."""

    def summary(self) -> dict[str, Any]:
        """All but the releases, as plain values."""
        found = asdict(self)
        del found["releases"]
        return found | {"outcomes": dict(self.outcomes)}


def read(
    session: Session, now: float, days: float = MONTH_DAYS, *, joules_per_byte: float = 0.0
) -> DeliveryReading:
    """The last ``days`` until ``now``, in a constant number of statements; energy by what sending a
    byte takes, 0 where that isn't known."""
    since = now - days * DAY_SECONDS
    found = DeliveryReading(days)
    found.releases = _releases(session, since)
    found.outcomes = Counter(story.outcome for story in found.releases)
    found.lead_seconds = _median(story.lead_seconds for story in found.releases)
    found.exposed_seconds = _median(story.exposed_seconds for story in found.releases)
    found.back_seconds = _median(story.back_seconds for story in found.releases)
    _alerts(session, found, since)
    _bytes(session, found, since)
    if joules_per_byte and found.bytes_sent is not None and found.bytes_raw is not None:
        found.joules_saved = (found.bytes_raw - found.bytes_sent) * joules_per_byte
    return found


def _releases(session: Session, since: float) -> list[ReleaseStory]:
    versions = session.exec(
        select(Version.model, Version.version, Version.created, Version.status)
        .where(col(Version.created) >= since, col(Version.model) != agent_release.NAME)
        .order_by(col(Version.created).desc())
        .limit(RELEASES_MAX)
    ).all()
    rollouts = _rollouts(session, since)
    return [
        _story(model, version, pushed, status, rollouts.get((model, version), []))
        for model, version, pushed, status in versions
    ]


@dataclass(frozen=True)
class _Run:
    """A rollout in short."""

    started: float
    state: str
    completed: float | None
    ended: float | None
    back: float | None


def _rollouts(session: Session, since: float) -> dict[tuple[str, str], list[_Run]]:
    moment = {
        state: func.min(sa.case((col(RolloutStep.state).in_(states), col(RolloutStep.at))))
        for state, states in (("completed", ("completed",)), ("ended", ENDS))
    }
    rows = session.connection().execute(
        sa.select(
            col(Rollout.id), col(Rollout.model), col(Rollout.version), col(Rollout.created),
            col(Rollout.state), moment["completed"], moment["ended"],
        )
        .join(RolloutStep, col(RolloutStep.rollout) == col(Rollout.id))
        .where(col(Rollout.created) >= since)
        .group_by(col(Rollout.id), col(Rollout.model), col(Rollout.version),
                  col(Rollout.created), col(Rollout.state))
        .order_by(col(Rollout.id))
    ).all()  # fmt: skip
    back = _back(session, {row[0]: row[6] for row in rows if row[6] is not None})
    found: dict[tuple[str, str], list[_Run]] = {}
    for number, model, version, started, state, completed, ended in rows:
        run = _Run(started, state, completed, ended, back.get(number))
        found.setdefault((model, version), []).append(run)
    return found


def _back(session: Session, ended: Mapping[int, float]) -> dict[int, float]:
    """Rollout that was taken back → when the last of its devices said that it runs another."""
    if not ended:
        return {}
    rows = session.connection().execute(
        sa.select(
            col(RolloutDevice.rollout), col(EventRow.device), col(EventRow.received),
            col(EventRow.data),
        )
        .join(Rollout, col(Rollout.id) == col(RolloutDevice.rollout))
        .join(EventRow, col(EventRow.device) == col(RolloutDevice.device))
        .where(
            col(RolloutDevice.rollout).in_(ended),
            col(EventRow.received) >= min(ended.values()),
            col(EventRow.kind).in_(("update", "rolled_back")),
            col(EventRow.slot) == col(Rollout.slot),
        )
    )  # fmt: skip
    first: dict[tuple[int, str], float] = {}
    for number, device, received, data in rows:
        if received >= ended[number] and data.get("state") in ("committed", "failed"):
            key = (number, device)
            first[key] = min(first.get(key, received), received)
    last: dict[int, float] = {}
    for (number, _), received in first.items():
        last[number] = max(last.get(number, received), received)
    return last


def _story(
    model: str, version: str, pushed: float, status: str, runs: Sequence[_Run]
) -> ReleaseStory:
    story = ReleaseStory(model, version, pushed, "not_rolled_out")
    done = min((run.completed for run in runs if run.completed is not None), default=None)
    if done is not None:
        story.outcome, story.delivered, story.lead_seconds = "delivered", done, done - pushed
    if any(run.state in ("running", "paused") for run in runs):
        story.outcome = "under_way"
    wrong = next((run for run in reversed(runs) if run.state in ENDS), None)
    if wrong is not None and wrong.ended is not None:
        story.outcome = "taken_back" if wrong is runs[-1] else story.outcome
        story.taken_back, story.exposed_seconds = wrong.ended, wrong.ended - wrong.started
        story.back_seconds = None if wrong.back is None else wrong.back - wrong.ended
    if status == "rejected":
        story.outcome = "refused"
    return story


def _alerts(session: Session, found: DeliveryReading, since: float) -> None:
    among = col(Device.revoked).is_(False) & col(Device.approved).is_(True)
    found.devices = session.exec(select(func.count()).select_from(Device).where(among)).one()
    opened = set(session.exec(select(Alert.id).where(col(Alert.opened) >= since)))
    found.alerts = len(opened)
    acted = session.exec(
        select(Audit.subject).where(col(Audit.action).in_(ACTED), col(Audit.at) >= since).distinct()
    )
    numbers = {int(name) for _, _, name in (text.rpartition("/") for text in acted)
               if name.isdecimal()}  # fmt: skip
    found.alerts_acted = len(opened & numbers)
    if found.devices:
        months = found.devices * found.days / MONTH_DAYS
        found.alerts_per_device_month = found.alerts / months


def _bytes(session: Session, found: DeliveryReading, since: float) -> None:
    """By the fleet's days; how large a summary is per inference, the newest windows say."""
    days = session.connection().execute(
        sa.select(col(Rollup.manifest), total(Rollup.n))
        .where(col(Rollup.level) == "day", col(Rollup.device) == "", col(Rollup.start) >= since)
        .group_by(col(Rollup.manifest))
    )
    counted = {manifest: float(n or 0) for manifest, n in days}
    newest = (
        sa.select(col(SummaryWindow.n).label("n"),
                  func.length(col(SummaryWindow.payload)).label("size"))
        .order_by(col(SummaryWindow.id).desc())
        .limit(WINDOWS_SAMPLED)
        .subquery()
    )  # fmt: skip
    sampled, size = session.connection().execute(
        sa.select(total(newest.c.n), total(newest.c.size))
    ).one()  # fmt: skip
    found.inferences = sum(counted.values())
    if not found.inferences:
        return
    if sampled:
        found.bytes_sent = found.inferences * float(size) / float(sampled)
    rows = session.exec(
        select(Version.manifest_sha256, Version.manifest).where(
            col(Version.manifest_sha256).in_(counted)
        )
    )
    found.bytes_raw = sum(counted[sha256] * row_bytes(manifest) for sha256, manifest in rows)


def row_bytes(manifest: bytes) -> float:
    """Bytes of an inference's inputs and outputs; texts, and sizes that vary, count as one."""
    try:
        said = json.loads(manifest)
    except ValueError:
        return 0.0
    size = 0.0
    for tensor in (*said.get("inputs", ()), *said.get("outputs", ())):
        shape = list(tensor.get("shape", ()))
        axis = tensor.get("batch_axis", 0)
        if axis is not None and axis < len(shape):
            del shape[axis]
        count = 1.0
        for dimension in shape:
            count *= max(dimension, 1)
        size += count * _BYTES.get(tensor.get("datatype", ""), 4)
    return size


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
