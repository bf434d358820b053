"""Bring alerts in line with the troubles that are present.

``look`` only reads, however large the fleet, and says what is to be written; ``persist`` is given a
transaction for that alone.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from sqlalchemy import bindparam, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from muster_hub.alerts import causes, rules
from muster_hub.alerts.causes import DriftSeen
from muster_hub.alerts.rules import AlertChanges, Condition, StandingAlert
from muster_hub.alerts.troubles import SILENT_SECONDS, Troubles
from muster_hub.fleet import clones
from muster_hub.fleet.known import Known
from muster_hub.storage import models

SILENCE = "silence"
CLEAR_SECONDS = 60.0
HOSTILE_SECONDS = 3600.0
"""For so long after the last one, messages that were set aside are a trouble."""
HOARDING_SECONDS = 86_400.0
EPOCHS_ALARMING = 6
"""New outboxes within that time: a device has another only when it was wiped."""
TAKEOVER = "takeover"
"""Kind of the events that tell of one."""
EVENTS = 20_000
"""Of the latest ones, among which takeovers are looked for."""
BEGUN_SECONDS = 7 * 86_400.0
LIVE_SECONDS = 3600.0
"""Outboxes begun so lately, and written to so lately, are looked at."""
OVERLAP_SECONDS = 120.0
"""By which an older outbox goes on after a newer one began: late batches don't count."""
DRIFT_FRESH_SECONDS = 86_400.0
"""Drift last seen longer ago than this is of a model that no longer runs there."""


def look(
    session: Session,
    troubles: Troubles,
    known: Mapping[str, Known],
    now: float,
    *,
    roles: Mapping[str, float] = MappingProxyType({}),
    doubts: Iterable[Condition] = (),
    listening_seconds: float = float("inf"),
) -> AlertChanges:
    """Which alerts are to be opened, refreshed and resolved.

    ``roles``: when metadata expire; ``doubts``: what devices claim and don't prove;
    ``listening_seconds``: for how long the hub has heard all that was said, without a break. Before
    that is as long as a silence takes nobody is called silent, and who was is not called back.
    """
    rows = session.exec(_UNRESOLVED).all()
    judges = listening_seconds >= SILENT_SECONDS
    standing = [
        row for row in rows if judges or row.kind != SILENCE or not troubles.silent(row.device, now)
    ]
    found = [rules.metadata_ending(role, ends - now) for role, ends in roles.items()]
    found += [
        rules.certificate_ending(device, ends - now)
        for device, ends in _certificates_ending(session, now)
        if device in known and known[device].active
    ]
    found += troubles.conditions({row.key for row in rows}, now, judges_silence=judges)
    found += _hostile(session, now)
    found += _drifting(session, troubles, known, now)
    present = [condition for condition in found if condition is not None]
    return _compared(standing, [*present, *doubts], now)


def persist(session: Session, changes: AlertChanges, now: float) -> int:
    """Write what ``look`` found; how many alerts changed. What was resolved meanwhile stays so."""
    numbers = {*changes.refreshed, *changes.clearing, *changes.resolved}
    rows = {
        row.id or 0: row
        for row in map(partial(session.get, models.Alert), sorted(numbers))
        if row is not None and row.state != "resolved"
    }
    for condition in changes.opened:
        session.add(
            models.Alert(
                key=condition.key,
                device=condition.device,
                kind=condition.kind,
                severity=condition.severity,
                state="open",
                opened=now,
                updated=now,
                title=condition.title,
                detail=dict(condition.detail),
            )
        )
        _log_event(session, "alert", condition.device, condition, now)
    for number, row in rows.items():
        if number in changes.refreshed:
            condition = changes.refreshed[number]
            row.severity, row.title = condition.severity, condition.title
            row.detail, row.cleared_at, row.updated = dict(condition.detail), None, now
        elif number in changes.clearing:
            row.cleared_at = now
        else:
            row.state, row.updated = "resolved", now
            _log_event(session, "alert_resolved", row.device, row, now)
        session.add(row)
    session.flush()
    return len(changes.opened) + len(rows)


def keep(
    session: Session,
    present: Iterable[Condition],
    now: float,
    *,
    kind: str,
    mine: Callable[[str], bool] = lambda _key: True,
) -> int:
    """The same for alerts of a kind that somebody else than the engine's step keeps; of several who
    do, each those whose keys are ``mine``."""
    rows = session.exec(
        select(models.Alert).where(
            col(models.Alert.state) != "resolved", col(models.Alert.kind) == kind
        )
    ).all()
    return persist(session, _compared((row for row in rows if mine(row.key)), present, now), now)


def _compared(
    kept: Iterable[models.Alert], present: Iterable[Condition], now: float
) -> AlertChanges:
    standing = [
        StandingAlert(
            id=row.id or 0,
            key=row.key,
            severity=row.severity,  # type: ignore[arg-type]  # the database holds the column to these words
            title=row.title,
            detail=row.detail,
            cleared_at=row.cleared_at,
        )
        for row in kept
    ]
    return rules.decide(standing, present, now=now, clear_seconds=CLEAR_SECONDS)


_UNRESOLVED = select(models.Alert).where(
    col(models.Alert.state) != "resolved", col(models.Alert.kind) != rules.HUB
)
_ALARMING = select(
    models.DriftState.device, models.DriftState.manifest, models.DriftState.view
).where(
    col(models.DriftState.alarming).is_(True), col(models.DriftState.updated) > bindparam("since")
)
_FRESH = select(models.DriftState.device, models.DriftState.manifest).where(
    col(models.DriftState.manifest).in_(bindparam("manifests", expanding=True)),
    col(models.DriftState.updated) > bindparam("since"),
)
_SET_ASIDE = select(models.Device.id, models.Device.set_aside, models.Device.set_aside_fault).where(
    col(models.Device.set_aside_at) > bindparam("since")
)
_HOARDING = (
    select(func.min(models.Stream.device), models.Stream.stream, func.count())
    .where(col(models.Stream.created) > bindparam("since"))
    # Not by the bare column: the index of the primary key would be walked, for the order's sake.
    .group_by(col(models.Stream.device) + "", col(models.Stream.stream))
    .having(func.count() >= EPOCHS_ALARMING)
)
_TAKEOVERS = (
    select(models.EventRow.device, models.EventRow.data)
    .where(
        # The latest by number: there is no index of times.
        col(models.EventRow.id) > select(func.max(models.EventRow.id)).scalar_subquery() - EVENTS,
        col(models.EventRow.kind) == TAKEOVER,
        col(models.EventRow.received) > bindparam("since"),
    )
    .order_by(col(models.EventRow.id))
)
_OLDER = aliased(models.Stream)
_SIDE_BY_SIDE = (
    select(models.Stream.device)
    .join(
        _OLDER,
        (col(_OLDER.device) == col(models.Stream.device))
        & (col(_OLDER.stream) == col(models.Stream.stream))
        & (col(_OLDER.created) < col(models.Stream.created))
        & (col(_OLDER.updated) > col(models.Stream.created) + OVERLAP_SECONDS),
    )
    .where(
        col(models.Stream.created) > bindparam("begun"),
        col(models.Stream.updated) > bindparam("live"),
        col(_OLDER.updated) > bindparam("live"),
    )
)
_ENDING = select(models.Device.id, models.Device.certificate_expires).where(
    col(models.Device.certificate_expires) < bindparam("until")
)


def _drifting(
    session: Session, troubles: Troubles, known: Mapping[str, Known], now: float
) -> list[Condition]:
    """Drift where there is any, held beside all that run the same version; else nothing is read."""
    since = {"since": now - DRIFT_FRESH_SECONDS}
    views = {
        (device, manifest): view
        for device, manifest, view in session.exec(_ALARMING, params=since)
        if troubles.runs(device, manifest)
    }
    if not views:
        return []
    manifests = sorted({manifest for _, manifest in views})
    states = [
        DriftSeen(device, manifest, views.get((device, manifest), {}))
        for device, manifest in session.exec(_FRESH, params=since | {"manifests": manifests})
        if troubles.runs(device, manifest)
    ]
    labels = {state.device: known[state.device].labels for state in states}
    return causes.drift_conditions(states, labels)


def _hostile(session: Session, now: float) -> list[Condition]:
    """Devices that lately sent what had to be set aside, or that hoard epochs."""
    rows = session.exec(_SET_ASIDE, params={"since": now - HOSTILE_SECONDS})
    found = [rules.set_aside(device, count, why) for device, count, why in rows]
    hoarding = session.exec(_HOARDING, params={"since": now - HOARDING_SECONDS})
    found += [rules.hoarding(device, count) for device, _, count in hoarding]
    return found + _cloned(session, now)


def _cloned(session: Session, now: float) -> list[Condition]:
    """Identities that two machines use."""
    taken: dict[str, list[clones.Handover]] = {}
    since = now - clones.LOOK_BACK_SECONDS
    for device, data in session.exec(_TAKEOVERS, params={"since": since}):
        if device is not None:
            places = clones.Handover(str(data.get("address", "")), str(data.get("before", "")))
            taken.setdefault(device, []).append(places)
    found = {device: clones.fighting(each) for device, each in taken.items()}
    found = {device: addresses for device, addresses in found.items() if addresses}
    # A wiped device leaves an outbox behind; of two machines each goes on with its own.
    side_by_side = {"begun": now - BEGUN_SECONDS, "live": now - LIVE_SECONDS}
    for device in session.exec(_SIDE_BY_SIDE, params=side_by_side):
        found.setdefault(device, ())
    return [rules.cloned(device, addresses) for device, addresses in sorted(found.items())]


def _certificates_ending(session: Session, now: float) -> list[tuple[str, float]]:
    """(Device, when) of certificates that end soon or have ended."""
    rows = session.exec(_ENDING, params={"until": now + rules.CERTIFICATE_WARN_SECONDS})
    return [(name, ends) for name, ends in rows if ends is not None]


def _log_event(
    session: Session, kind: str, device: str | None, about: Condition | models.Alert, now: float
) -> None:
    model = str(about.detail.get("model", ""))
    session.add(
        models.EventRow(kind=kind, device=device, received=now, detail=about.title, model=model)
    )
