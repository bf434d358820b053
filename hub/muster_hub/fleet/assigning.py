"""Changing assignments by hand: selector → version in a slot, without a rollout around it."""

from contextlib import suppress
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from muster_hub.errors import Conflict, NotFound, Refused
from muster_hub.fleet.assignments import slot_of
from muster_hub.storage.models import Assignment, Version
from muster_hub.storage.store import Store
from muster_protocol.wire import selectors
from muster_protocol.wire.topics import check_name

RELEASED = ("signed", "published")


def put(
    session: Session,
    *,
    slot: str,
    selector: str,
    model: str,
    version: str,
    precedence: int | None,
    window_seconds: float | None,
    now: float,
) -> Assignment:
    """Make the assignment of a slot and selector, or change the one that is there.

    Raises SelectorError, ProtocolError, NotFound for an unknown version, Conflict for one that
    isn't published or a precedence that is taken.
    """
    slot = slot_of(model, check_name(slot, "slot"))
    chosen = str(selectors.parse(selector))
    found = session.get(Version, (model, version))
    if found is None:
        raise NotFound(f"there is no version {version} of model {model}")
    if found.status not in RELEASED:
        raise Conflict(f"{model} {version} is {found.status}, not published")
    row = get_by_key(session, slot, chosen)
    if precedence is not None:
        _check_free(session, precedence, row)
    if row is None:
        highest = session.exec(select(func.max(Assignment.precedence))).one() or 0
        row = Assignment(
            slot=slot,
            selector=chosen,
            model=model,
            version=version,
            precedence=highest + 1 if precedence is None else precedence,
            created=now,
        )
    elif precedence is not None:
        row.precedence = precedence
    if (row.model, row.version) != (model, version):
        row.rollout = None
    row.model, row.version, row.window_seconds = model, version, window_seconds
    session.add(row)
    session.flush()
    return row


class _TakeBack(Exception):
    """Ends the transaction without a trace."""


def rehearse(store: Store, **asked: Any) -> None:
    """Raise what ``put`` with these arguments would raise; nothing is changed."""
    with suppress(_TakeBack), store.write() as session:
        put(session, **asked)
        raise _TakeBack


def must_not_release(
    before: Assignment | None, model: str, version: str, precedence: int | None
) -> None:
    """Raise Refused for a change that brings any device another version: that is a rollout's, which
    somebody else approves."""
    same = before is not None and (before.model, before.version) == (model, version)
    if same and before is not None and precedence in (None, before.precedence):
        return
    raise Refused(
        "two people are asked for here: only a rollout, which somebody else approves, brings "
        "devices another version (muster rollout start)"
    )


def must_leave_alone(session: Session, row: Assignment) -> None:
    """Raise Refused when, without this assignment, devices would follow another one."""
    others = select(Assignment).where(Assignment.slot == row.slot, Assignment.id != row.id)
    if session.exec(others).first() is not None:
        raise Refused(
            f"two people are asked for here, and without assignment {row.id} its devices may "
            "follow another one: bring them that version by a rollout first"
        )


def get(session: Session, number: int) -> Assignment:
    """Raises NotFound."""
    row = session.get(Assignment, number)
    if row is None:
        raise NotFound(f"there is no assignment {number}")
    return row


def get_by_key(session: Session, slot: str, selector: str) -> Assignment | None:
    """The assignment of a slot and selector, if there is one."""
    return session.exec(
        select(Assignment).where(col(Assignment.slot) == slot, col(Assignment.selector) == selector)
    ).first()


def _check_free(session: Session, precedence: int, row: Assignment | None) -> None:
    other = session.exec(select(Assignment).where(Assignment.precedence == precedence)).first()
    if other is not None and (row is None or other.id != row.id):
        raise Conflict(f"assignment {other.id} has the precedence {precedence} already")
