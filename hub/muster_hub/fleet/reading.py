"""Devices, assignments and events as they are shown. Nothing here writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, true
from sqlalchemy import select as columns_of
from sqlmodel import Session, and_, col, func, or_, select

from muster_hub.access import scoped
from muster_hub.access.scope import Scope
from muster_hub.fleet import diagnosing, log_watching
from muster_hub.fleet.known import is_online
from muster_hub.identity import proof
from muster_hub.storage import models, selecting
from muster_protocol.wire import selectors

Plain = dict[str, Any]
ABOUT_DEVICES = ("enrolled", "approved", "revoked")
"""Kinds of events that are about no model."""
SHOWN_APART = (diagnosing.KIND, log_watching.KIND)


def devices(
    session: Session,
    scope: Scope,
    *,
    selector: str | None,
    after: str,
    limit: int,
    now: float,
    holding: str = "",
) -> list[Plain]:
    """Devices by id, those after ``after``, with their slots of models in scope; SelectorError.

    With ``holding`` only those whose id or labels hold this text.
    """
    found = session.exec(
        select(models.Device, models.DirectiveRow)
        .join(
            models.DirectiveRow,
            col(models.DirectiveRow.device) == col(models.Device.id),
            isouter=True,
        )
        .where(selecting.matching(selectors.parse(selector or "")))
        .where(selecting.holding(holding) if holding else true())
        .where(col(models.Device.id) > after)
        .order_by(col(models.Device.id))
        .limit(limit)
    )
    rows = [(row, directive) for row, directive in found]
    held = _certificates(session, [row.id for row, _ in rows])
    return [
        scoped.device(scope, _device(row, directive, held.get(row.id, []), now))
        for row, directive in rows
    ]


def device(session: Session, scope: Scope, device: str, now: float) -> Plain | None:
    """One device for the API, or None when it isn't within the scope."""
    row = session.get(models.Device, device)
    directive = session.get(models.DirectiveRow, device)
    held = _certificates(session, [device])
    if row is None:
        return None
    return scoped.device(scope, _device(row, directive, held.get(device, []), now))


def count(session: Session, selector: selectors.Selector) -> int:
    """How many devices a selector matches, those that were revoked left out."""
    query = (
        select(func.count())
        .select_from(models.Device)
        .where(selecting.matching(selector), col(models.Device.revoked).is_(False))
    )
    return session.exec(query).one()


def assignments(
    session: Session, scope: Scope, *, after: int, limit: int
) -> Sequence[models.Assignment]:
    """Assignments within a scope by id, those after ``after``."""
    row = models.Assignment
    query = (
        columns_of(col(row.id), col(row.model), col(row.selector))
        .where(col(row.id) > after)
        .order_by(col(row.id))
    )
    seen = scoped.within(session, query, scope, limit)
    return session.exec(select(row).where(col(row.id).in_(seen)).order_by(col(row.id))).all()


def events(
    session: Session, scope: Scope, *, after: int, limit: int, selector: str | None = None
) -> list[Plain]:
    """What happened since event ``after``, the oldest first; with a selector on devices of it.

    Who is limited to models sees what says it is about one of them, and who came and went.
    """
    row = models.EventRow
    query = select(row).where(col(row.id) > after, _seen(scope))
    if selector:
        chosen = selectors.parse(selector)
        query = query.where(col(models.EventRow.device).in_(selecting.devices(chosen)))
    found = session.exec(query.order_by(col(models.EventRow.id)).limit(limit))
    return [row.model_dump() for row in found]


def latest_events(session: Session, scope: Scope, device: str, limit: int) -> list[Plain]:
    """What happened last on a device, the newest first, as far as the scope lets it be seen.

    Answers to what is wrong there, and lines of its log, are shown by themselves.
    """
    row = models.EventRow
    query = select(row).where(
        col(row.device) == device, col(row.kind).not_in(SHOWN_APART), _seen(scope)
    )
    return [
        row.model_dump() for row in session.exec(query.order_by(col(row.id).desc()).limit(limit))
    ]


def _seen(scope: Scope) -> ColumnElement[bool]:
    """Holds for events that a scope lets be seen, as far as models go."""
    if not scope.models:
        return true()
    row = models.EventRow
    return or_(
        selecting.of_models(col(row.model), scope.models),
        and_(col(row.model) == "", col(row.kind).in_(ABOUT_DEVICES)),
    )


def _certificates(session: Session, devices: list[str]) -> dict[str, list[str]]:
    """The certificates in PEM, not revoked, of each of these devices; the newest first."""
    found: dict[str, list[str]] = {}
    rows = session.exec(
        select(models.Certificate.device, models.Certificate.pem)
        .where(col(models.Certificate.device).in_(devices))
        .where(col(models.Certificate.revoked).is_(None))
        .order_by(col(models.Certificate.issued).desc())
    )
    for device, pem in rows:
        found.setdefault(device, []).append(pem)
    return found


def _device(
    row: models.Device,
    directive: models.DirectiveRow | None,
    certificates: list[str],
    now: float,
) -> Plain:
    """A device: what it should run, what it says it runs, and what it has proved to run."""
    wanted = {} if directive is None else msgspec.json.decode(directive.payload)["slots"]
    slots = ((row.report or {}).get("slots") or {}) if row.report else {}
    desired = {
        slot: {key: item["champion"][key] for key in ("model", "version", "manifest")}
        for slot, item in wanted.items()
    }
    return row.model_dump() | {
        "online": is_online(row, now),
        "generation": None if directive is None else directive.generation,
        "desired": desired,
        "proved": proof.proved_slots(row.id, row.report, certificates),
        "running": {
            slot: {key: running.get(key) for key in ("model", "version", "manifest", "runtime")}
            for slot, item in slots.items()
            if (running := item.get("running"))
        },
        "converged": all(_runs(slots.get(slot), item) for slot, item in desired.items()),
    }


def _runs(slot: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a slot's report proves the wanted version committed."""
    running = (slot or {}).get("running") or {}
    state = ((slot or {}).get("update") or {}).get("state")
    return running.get("manifest") == wanted["manifest"] and state in ("idle", "committed")
