"""The whole fleet at a glance: one small entry a device, read with one statement.

Of reports and directives only what an overview says is decoded. Nothing here writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, col

from muster_hub.access.scope import Scope
from muster_hub.fleet.known import HEARD_SECONDS
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


class _Release(msgspec.Struct):
    model: str = ""
    version: str = ""
    manifest: str = ""


class _Update(msgspec.Struct):
    state: str = "idle"
    waiting_for: str = ""
    refusal: str | None = None


class _Slot(msgspec.Struct):
    health: str = "ok"
    running: _Release | None = None
    update: _Update = msgspec.field(default_factory=_Update)


class _Report(msgspec.Struct):
    slots: dict[str, _Slot] = {}


class _Goal(msgspec.Struct):
    champion: _Release = msgspec.field(default_factory=_Release)


class _Directive(msgspec.Struct):
    slots: dict[str, _Goal] = {}


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One device of the overview."""

    id: str
    labels: Mapping[str, str]
    standing: Standing
    waiting_for: str
    runs: tuple[tuple[str, str, str], ...]
    """(slot, model, version), by slot."""
    wanted: tuple[tuple[str, str, str], ...]
    last_seen: float | None


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
    labels_of = msgspec.json.Decoder(dict[str, str])
    reports: msgspec.json.Decoder[_Report | None] = msgspec.json.Decoder(_Report | None)
    directives = msgspec.json.Decoder(_Directive)
    found = []
    for name, labels, approved, revoked, online, last_seen, report, payload in (
        session.connection().execute(query)
    ):  # fmt: skip
        reported = reports.decode(report) if report else None
        slots = _in_scope(scope, reported.slots) if reported else {}
        goals = directives.decode(payload).slots if payload else {}
        wanted = {
            slot: goal.champion
            for slot, goal in goals.items()
            if scope.has_model(goal.champion.model)
        }
        heard = online and (last_seen is None or now - last_seen < HEARD_SECONDS)
        found.append(
            Glimpse(
                id=name,
                labels=labels_of.decode(labels),
                standing=_standing(
                    {"approved": approved, "revoked": revoked, "heard": heard}, slots, wanted
                ),
                waiting_for=next(
                    (slot.update.waiting_for for slot in slots.values() if slot.update.waiting_for),
                    "",
                ),
                runs=_releases({n: slot.running for n, slot in slots.items() if slot.running}),
                wanted=_releases(wanted),
                last_seen=last_seen,
            )
        )
    return found


def _in_scope(scope: Scope, slots: Mapping[str, _Slot]) -> Mapping[str, _Slot]:
    if not scope.models:
        return slots
    return {
        name: slot
        for name, slot in slots.items()
        if slot.running is None or scope.has_model(slot.running.model)
    }


def _standing(
    row: Mapping[str, bool], slots: Mapping[str, _Slot], wanted: Mapping[str, _Release]
) -> Standing:
    """The first that holds."""
    updates = [slot.update for slot in slots.values()]
    holds: tuple[tuple[Standing, bool], ...] = (
        ("revoked", row["revoked"]),
        ("awaiting_approval", not row["approved"]),
        ("offline", not row["heard"]),
        ("refused", any(update.state == "failed" or update.refusal for update in updates)),
        ("waiting", any(update.waiting_for for update in updates)),
        ("updating", any(update.state in MOVING for update in updates) or not _has(slots, wanted)),
        ("unhealthy", any(slot.health != "ok" for slot in slots.values())),
        ("converged", bool(wanted or slots)),
    )
    return next((word for word, true in holds if true), "unassigned")


def _has(slots: Mapping[str, _Slot], wanted: Mapping[str, _Release]) -> bool:
    """Whether every wanted version runs."""
    for name, goal in wanted.items():
        running = slots[name].running if name in slots else None
        if running is None or running.manifest != goal.manifest:
            return False
    return True


def _releases(found: Mapping[str, _Release]) -> tuple[tuple[str, str, str], ...]:
    return tuple((slot, item.model, item.version) for slot, item in sorted(found.items()))
