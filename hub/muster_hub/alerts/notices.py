"""Which alerts are told now, together with which others, and when a model is to be retrained. Pure.

An alert is told once when it opens and once when it resolves; in between once more, as escalated,
when nobody acknowledges it. Alerts of one site, model and cause are told together. A silenced
alert is not told; when it still stands at the silence's end, it is told then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from muster_protocol.wire.selectors import Selector

NotifiedStep = Literal["", "opened", "escalated", "resolved"]
DAY_SECONDS = 86_400.0
LABEL_SITE = "site"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """An alert as far as telling it matters."""

    id: int
    kind: str
    state: str
    opened: float
    notified: NotifiedStep
    device: str | None = None
    model: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str, str]:
        """Site, model and cause."""
        return self.labels.get(LABEL_SITE, ""), self.model, self.kind


@dataclass(frozen=True)
class ActiveSilence:
    """No alert of a matching device is told until ``until``; an empty selector matches all."""

    selector: Selector
    until: float

    def covers(self, fact: Fact, now: float) -> bool:
        """Whether an alert is silenced at ``now``."""
        if now >= self.until:
            return False
        if fact.device is None:
            return not self.selector.parts
        return self.selector.matches(fact.labels)


@dataclass(frozen=True)
class Notice:
    """Something to tell: alerts of one group that take the same step."""

    step: Literal["opened", "escalated", "resolved"]
    group: tuple[str, str, str]
    alerts: tuple[int, ...]


def decide(
    facts: Iterable[Fact],
    silences: Iterable[ActiveSilence],
    *,
    now: float,
    group_seconds: float,
    escalate_seconds: float,
) -> list[Notice]:
    """What is to be told now; each alert named then counts as ``notified`` of that step."""
    quiet = tuple(silences)
    groups: dict[tuple[str, str, str], list[Fact]] = {}
    for fact in facts:
        if not any(item.covers(fact, now) for item in quiet):
            groups.setdefault(fact.group, []).append(fact)
    notices = []
    for group, members in sorted(groups.items()):
        fresh = [member for member in members if member.notified == "" and member.state == "open"]
        waited = fresh and now - min(item.opened for item in fresh) >= group_seconds
        steps: dict[Literal["opened", "escalated", "resolved"], list[Fact]] = {
            "opened": fresh if waited else [],
            "escalated": [
                member
                for member in members
                if member.notified == "opened"
                and member.state == "open"
                and now - member.opened >= escalate_seconds
            ],
            "resolved": [
                member
                for member in members
                if member.notified in ("opened", "escalated") and member.state == "resolved"
            ],
        }
        notices += [
            Notice(step, group, tuple(sorted(item.id for item in taking)))
            for step, taking in steps.items()
            if taking
        ]
    return notices


def digest_due(last: float | None, now: float, hour: int) -> bool:
    """Whether the hour of the day (UTC) has come since the last digest; at first it only waits."""
    latest = (now - hour * 3600) // DAY_SECONDS * DAY_SECONDS + hour * 3600
    return last is not None and last < latest


@dataclass(frozen=True)
class Retraining:
    """What is remembered of a model between two looks."""

    since: float | None = None
    """Since when enough devices have drifted without a break."""
    asked: float | None = None
    armed: bool = True
    """False from a request until the drift has gone."""


def retrain(
    before: Retraining,
    drifting: int,
    *,
    now: float,
    devices: int,
    after_seconds: float,
    cooldown_seconds: float,
) -> tuple[Retraining, bool]:
    """What to remember, and whether to ask for retraining now.

    One drift asks once, however long it lasts. It counts as gone only when fewer than half of
    ``devices`` drift, so that a number that wavers about the mark asks no second time.
    """
    if drifting >= devices:
        since = now if before.since is None else before.since
        rested = before.asked is None or now - before.asked >= cooldown_seconds
        if before.armed and rested and now - since >= after_seconds:
            return Retraining(since, now, armed=False), True
        return Retraining(since, before.asked, before.armed), False
    gone = 2 * drifting < devices
    return Retraining(None, before.asked, before.armed or gone), False


def notice_title(notice: Notice, alerts: Mapping[int, Mapping[str, Any]]) -> str:
    """One line that says what a notice is about."""
    site, model, cause = notice.group
    where = " ".join(part for part in (f"at {site}" if site else "", model) if part)
    if len(notice.alerts) == 1:
        title = str(alerts[notice.alerts[0]]["title"])
    else:
        title = f"{len(notice.alerts)} {cause} alerts{' ' + where if where else ''}"
    return title if notice.step == "opened" else f"{notice.step}: {title}"
