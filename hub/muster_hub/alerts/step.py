"""Decide what is told, in the engine's transaction: deliveries are rows, sent afterwards."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import bindparam, func
from sqlmodel import Session, col, delete, or_, select

from muster_hub.alerts import messages, notices, webhooks
from muster_hub.alerts.notices import Fact, Retraining
from muster_hub.settings.alerts import Alerts, NoticeKind
from muster_hub.storage.alerting import NotifierState, Silence, Webhook, WebhookDelivery
from muster_hub.storage.models import Alert, Device
from muster_hub.storage.tables import target
from muster_protocol.wire import selectors

DELIVERIES_KEPT_SECONDS = 30 * 86_400.0
ALERTS_PER_NOTICE = 200
DIGEST = "digest"
RETRAIN = "retrain/"
_AWAITING_NOTICE = (
    select(Alert)
    .where(or_(col(Alert.state) != "resolved", col(Alert.told).in_(("opened", "escalated"))))
    .order_by(col(Alert.id))
)
_SILENCES = select(Silence).where(col(Silence.until) > bindparam("now"))
_FORGET = tuple(
    delete(target(table)).where(col(time) < bindparam("before"))
    for table, time in ((WebhookDelivery, WebhookDelivery.ended), (Silence, Silence.until))
)


@dataclass(frozen=True)
class _Listener:
    """A receiver of hub.toml or a webhook of the database, as far as it chooses what it hears."""

    name: str
    on: Collection[str]
    causes: Collection[str]


def step(session: Session, settings: Alerts, now: float) -> int:
    """Queue what is to be told now; how many deliveries."""
    listeners = _listeners(session, settings)
    rows = {row.id or 0: row for row in _awaiting_notice(session)}
    labels = _labels(session, [row.device for row in rows.values() if row.device])
    facts = [_fact(number, row, labels) for number, row in rows.items()]
    silences = _silences(session, now) if facts else []
    queued = 0
    for notice in notices.decide(
        facts,
        silences,
        now=now,
        group_seconds=settings.group_seconds,
        escalate_seconds=settings.escalate_seconds,
    ):
        rows_as_plain = {number: rows[number].model_dump() for number in notice.alerts}
        title = notices.notice_title(notice, rows_as_plain)
        listed = [rows_as_plain[number] for number in notice.alerts]
        for first in range(0, len(listed), ALERTS_PER_NOTICE):
            some = listed[first : first + ALERTS_PER_NOTICE]
            body = messages.event(notice.step, title, notice.group, some, now)
            queued += _queue(session, listeners, notice.step, notice.group[2], body, now)
        for number in notice.alerts:
            rows[number].told = notice.step
            session.add(rows[number])
    loud = [fact for fact in facts if not any(silence.covers(fact, now) for silence in silences)]
    kept = {row.name: row for row in session.exec(select(NotifierState))}
    queued += _retrain(session, settings, listeners, loud, rows, kept, now)
    return queued + _digest(session, settings, listeners, kept.get(DIGEST), now)


def _awaiting_notice(session: Session) -> Sequence[Alert]:
    """Alerts that stand, and resolved ones of which only the opening was told."""
    return session.exec(_AWAITING_NOTICE).all()


def _labels(session: Session, devices: list[str]) -> dict[str, dict[str, str]]:
    if not devices:
        return {}
    found = session.exec(select(Device.id, Device.labels).where(col(Device.id).in_(devices)))
    return {name: dict(labels) for name, labels in found}


def _silences(session: Session, now: float) -> list[notices.ActiveSilence]:
    return [
        notices.ActiveSilence(selectors.parse(row.selector), row.until)
        for row in session.exec(_SILENCES, params={"now": now})
    ]


def _fact(number: int, row: Alert, labels: Mapping[str, Mapping[str, str]]) -> Fact:
    return Fact(
        id=number,
        kind=row.kind,
        state=row.state,
        opened=row.opened,
        notified=cast("notices.NotifiedStep", row.told),
        device=row.device,
        model=str(row.detail.get("model", "")),
        labels=labels.get(row.device or "", {}),
    )


def _listeners(session: Session, settings: Alerts) -> list[_Listener]:
    named = [
        _Listener(receiver.name, receiver.on, receiver.causes) for receiver in settings.receivers
    ]
    made = session.exec(select(Webhook).order_by(col(Webhook.name)))
    return [
        *named,
        *(
            _Listener(webhooks.PREFIX + webhook.name, webhook.notices, webhook.causes)
            for webhook in made
        ),
    ]


def _queue(
    session: Session,
    listeners: Sequence[_Listener],
    step: NoticeKind,
    cause: str,
    body: bytes,
    now: float,
) -> int:
    wanted = [
        listener
        for listener in listeners
        if step in listener.on and (not listener.causes or not cause or cause in listener.causes)
    ]
    for listener in wanted:
        session.add(
            WebhookDelivery(
                id=secrets.token_hex(16), receiver=listener.name, body=body, created=now, due=now
            )
        )
    return len(wanted)


def _retrain(
    session: Session,
    settings: Alerts,
    listeners: Sequence[_Listener],
    facts: list[Fact],
    rows: Mapping[int, Alert],
    remembered: Mapping[str, NotifierState],
    now: float,
) -> int:
    standing: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.kind == "drift" and fact.state != "resolved" and fact.model:
            standing.setdefault(fact.model, []).append(fact)
    kept = {
        name.removeprefix(RETRAIN): row
        for name, row in remembered.items()
        if name.startswith(RETRAIN)
    }
    queued = 0
    for model in sorted({*standing, *kept}):
        row = kept.get(model) or NotifierState(name=RETRAIN + model)
        drifting = standing.get(model, [])
        before = Retraining(row.since, row.at, row.armed)
        after, ask = notices.retrain(
            before,
            len({fact.device for fact in drifting}),
            now=now,
            devices=settings.retrain_devices,
            after_seconds=settings.retrain_after_seconds,
            cooldown_seconds=settings.retrain_cooldown_seconds,
        )
        if ask:
            alerts = [rows[fact.id].model_dump() for fact in drifting]
            body = messages.retrain(model, alerts, after.since or now, now)
            queued += _queue(session, listeners, "retrain", "", body, now)
        if after != before or model not in kept:
            row.since, row.at, row.armed = after.since, after.asked, after.armed
            session.add(row)
    return queued


def _digest(
    session: Session,
    settings: Alerts,
    listeners: Sequence[_Listener],
    row: NotifierState | None,
    now: float,
) -> int:
    if row is None:
        session.add(NotifierState(name=DIGEST, at=now))
        return 0
    if not notices.digest_due(row.at, now, settings.digest_hour):
        return 0
    row.at = now
    session.add(row)
    day = now - notices.DAY_SECONDS
    standing: list[Mapping[str, Any]] = [
        alert.model_dump()
        for alert in session.exec(
            select(Alert).where(col(Alert.state) != "resolved").order_by(col(Alert.opened))
        )
    ]
    counts = {
        "opened": session.exec(
            select(func.count()).select_from(Alert).where(col(Alert.opened) >= day)
        ).one(),
        "resolved": session.exec(
            select(func.count())
            .select_from(Alert)
            .where(col(Alert.state) == "resolved", col(Alert.updated) >= day)
        ).one(),
    }
    return _queue(session, listeners, "digest", "", messages.digest(standing, counts, now), now)


def forget(session: Session, now: float) -> None:
    """Drop deliveries that ended and silences that passed a month ago."""
    for statement in _FORGET:
        session.connection().execute(statement, {"before": now - DELIVERIES_KEPT_SECONDS})
