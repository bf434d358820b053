"""The whole fleet at a glance: one small entry a device, read with one statement.

Of reports and directives only what an overview says is decoded. Nothing here writes.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, col

from muster_hub.access.scope import Scope
from muster_hub.fleet.known import heard
from muster_hub.storage import models, selecting
from muster_protocol.wire.selectors import Selector

Standing = Literal[
    "converged", "updating", "waiting", "refused", "unhealthy", "offline", "unassigned",
    "awaiting_approval", "revoked",
]  # fmt: skip
"""What is said of a device first: each has exactly one, the one that asks most for attention."""

MEANINGS: Final[Mapping[Standing, str]] = {
    "converged": "runs all that it should",
    "updating": "is bringing in a version",
    "waiting": "has a version ready, and waits for something",
    "refused": "refused a version, or went back from it",
    "unhealthy": "runs what it should, and its model isn't well",
    "offline": "isn't connected",
    "unassigned": "should run nothing",
    "awaiting_approval": "enrolled, and gets nothing to run before an operator approves it",
    "revoked": "was taken out for good",
}
STANDINGS: tuple[Standing, ...] = get_args(Standing)
MOVING = frozenset({"fetching", "verifying", "staged", "starting", "probation", "rolling_back"})


class _Release(msgspec.Struct, gc=False):
    model: str = ""
    version: str = ""
    manifest: str = ""


class _Update(msgspec.Struct, gc=False):
    state: str = "idle"
    waiting_for: str = ""
    refusal: str | None = None


class _Slot(msgspec.Struct, gc=False):
    health: str = "ok"
    running: _Release | None = None
    update: _Update = msgspec.field(default_factory=_Update)


class _Facts(msgspec.Struct, gc=False):
    agent_version: str = ""


class _Report(msgspec.Struct, gc=False):
    slots: dict[str, _Slot] = {}
    facts: _Facts = msgspec.field(default_factory=_Facts)


class _Goal(msgspec.Struct, gc=False):
    champion: _Release = msgspec.field(default_factory=_Release)


class _Directive(msgspec.Struct, gc=False):
    slots: dict[str, _Goal] = {}


class Glimpse(msgspec.Struct, frozen=True, gc=False):
    """One device of the overview."""

    id: str
    labels: Mapping[str, str]
    standing: Standing
    waiting_for: str
    runs: tuple[tuple[str, str, str], ...]
    """(slot, model, version), by slot."""
    wanted: tuple[tuple[str, str, str], ...]
    last_seen: float | None
    agent: str = ""
    """The version of its agent; empty: it has not said."""


def read(session: Session, scope: Scope, selector: Selector, now: float) -> list[Glimpse]:
    """Devices that a selector matches by id, of models in scope; one statement, however many."""
    device, directive = models.Device, models.DirectiveRow
    query = (
        sa.select(
            col(device.id), sa.cast(col(device.labels), sa.Text()), col(device.approved),
            col(device.revoked), col(device.online), col(device.last_seen),
            sa.cast(col(device.report), sa.Text()), col(directive.payload),
        )
        .join(directive, col(directive.device) == col(device.id), isouter=True)
        .where(selecting.matching(selector))
        .order_by(col(device.id))
    )  # fmt: skip
    # Each line here is run for each of thousands of devices, while somebody waits for a page.
    labels_of = msgspec.json.Decoder(dict[str, str])
    labelled: dict[str, Mapping[str, str]] = {}
    looks = {} if scope.models else _looks
    if len(looks) > LOOKS_MAX:
        looks.clear()
    found = []
    for name, text, approved, revoked, online, last_seen, report, payload in (
        session.connection().execute(query).all()
    ):  # fmt: skip
        labels = labelled.get(text)
        if labels is None:
            labels = labelled[text] = labels_of.decode(text)
        key = (hash(report), hash(payload))
        look = looks.get(key)
        if look is None:
            look = looks[key] = _look(scope, report, payload)
        standing = look.standing
        if revoked or not approved:
            standing = "revoked" if revoked else "awaiting_approval"
        elif not heard(online, last_seen, now):
            standing = "offline"
        found.append(
            Glimpse(
                name,
                labels,
                standing,
                look.waiting_for,
                look.runs,
                look.wanted,
                last_seen,
                look.agent,
            )
        )
    return found


class _Look(msgspec.Struct, frozen=True, gc=False):
    """What a report and a directive say together of a device that is there."""

    standing: Standing
    waiting_for: str
    runs: tuple[tuple[str, str, str], ...]
    wanted: tuple[tuple[str, str, str], ...]
    agent: str


LOOKS_MAX = 50_000
"""Kept from page to page, some hundred bytes each; most devices say what they said last time."""
_looks: dict[tuple[int, int], _Look] = {}
"""By the texts' hashes, of 64 bits and with a key of this process: what a pure function gave."""
_reports: msgspec.json.Decoder[_Report | None] = msgspec.json.Decoder(_Report | None)
_directives = msgspec.json.Decoder(_Directive)


def _look(scope: Scope, report: str | None, payload: bytes | None) -> _Look:
    reported = _reports.decode(report) if report else None
    slots = _in_scope(scope, reported.slots) if reported else {}
    wanted = _wanted(scope, _directives.decode(payload).slots) if payload else {}
    waits = ""
    for slot in slots.values():
        waits = waits or slot.update.waiting_for
    running = {where: slot.running for where, slot in slots.items() if slot.running}
    agent = reported.facts.agent_version if reported else ""
    return _Look(_standing(slots, wanted), waits, _releases(running), _releases(wanted), agent)


def _wanted(scope: Scope, goals: Mapping[str, _Goal]) -> dict[str, _Release]:
    return {
        slot: goal.champion
        for slot, goal in goals.items()
        if not scope.models or scope.has_model(goal.champion.model)
    }


def _in_scope(scope: Scope, slots: Mapping[str, _Slot]) -> Mapping[str, _Slot]:
    if not scope.models:
        return slots
    return {
        name: slot
        for name, slot in slots.items()
        if slot.running is None or scope.has_model(slot.running.model)
    }


def _standing(slots: Mapping[str, _Slot], wanted: Mapping[str, _Release]) -> Standing:
    """The first that holds, of a device that is there."""
    waiting = moving = unwell = False
    for slot in slots.values():
        update = slot.update
        if update.refusal or update.state == "failed":
            return "refused"
        waiting = waiting or bool(update.waiting_for)
        moving = moving or update.state in MOVING
        unwell = unwell or slot.health != "ok"
    if waiting:
        return "waiting"
    if moving or not _has(slots, wanted):
        return "updating"
    if unwell:
        return "unhealthy"
    return "converged" if wanted or slots else "unassigned"


def _has(slots: Mapping[str, _Slot], wanted: Mapping[str, _Release]) -> bool:
    """Whether every wanted version runs."""
    for name, goal in wanted.items():
        running = slots[name].running if name in slots else None
        if running is None or running.manifest != goal.manifest:
            return False
    return True


def _releases(found: Mapping[str, _Release]) -> tuple[tuple[str, str, str], ...]:
    ordered = found.items() if len(found) == 1 else sorted(found.items())
    return tuple([(slot, item.model, item.version) for slot, item in ordered])
