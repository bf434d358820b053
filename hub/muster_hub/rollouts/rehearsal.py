"""Starting a rollout and taking it back at once, to see what it would do."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from muster_hub.fleet.fleet import Fleet
from muster_hub.fleet.known import Known, in_words
from muster_hub.registry.bundle import names
from muster_hub.rollouts import commands, load
from muster_hub.rollouts.forecast import Forecast, forecast
from muster_hub.rollouts.members import Member
from muster_hub.storage.blobs import Blobs
from muster_hub.storage.models import Rollout, Version
from muster_hub.storage.store import Store
from muster_protocol.wire.errors import MusterError

Plain = dict[str, Any]
SHOWN_MAX = 100
"""Devices named per wave."""
UNREAD_SHOWN = 5
"""Devices named in a warning."""


class _TakeBack(Exception):
    """Ends the transaction without a trace."""


def rehearse(store: Store, blobs: Blobs, asked: Mapping[str, Any], *, by: str, now: float) -> Plain:
    """What ``commands.start_rollout`` with these arguments would lead to; raises what it raises."""
    views: list[Plain] = []
    try:
        with store.write() as session:
            number = commands.start_rollout(session, **asked, by=by, now=now)
            views.append(_view(session, blobs, session.get_one(Rollout, number), now))
            raise _TakeBack  # noqa: TRY301 (leaving the block is what takes it back)
    except _TakeBack:
        return views[0]


def _view(session: Session, blobs: Blobs, row: Rollout, now: float) -> Plain:
    fleet = Fleet()
    fleet.follow(session, now)
    members = load.members(session, row, {}, fleet.known.values(), {})
    found = forecast(load.rollout(row), members, now)
    size = _bytes(blobs, session.get_one(Version, (row.model, row.version)))
    count = sum(len(wave.devices) for wave in found.waves)
    return {
        "model": row.model,
        "version": row.version,
        "slot": row.slot,
        "selector": row.selector,
        "devices": len(members),
        "offline": sum(1 for member in members if not member.online),
        "waves": _waves(found),
        "budgets": [vars(budget) for budget in found.budgets],
        "binding": found.binding,
        "waiting": dict(found.waiting),
        "least_seconds": found.least_seconds,
        "shadow": list(found.shadow),
        "warnings": [*found.warnings, *_unread(session, row, members, fleet.known)],
        "bytes_each": size,
        "bytes_published": size,
        "bytes_delivered": size * count,
    }


def _unread(
    session: Session, row: Rollout, members: Sequence[Member], known: Mapping[str, Known]
) -> list[str]:
    """A warning of devices whose agents can't read all of the version."""
    needs = load.needs_of(session, row)
    unread = [member.device for member in members if not known[member.device].reads(needs)]
    if not unread:
        return []
    missing = {need for name in unread for need in needs if need not in known[name].understands}
    shown = ", ".join(unread[:UNREAD_SHOWN]) + (", …" * (len(unread) > UNREAD_SHOWN))
    words = (
        f"{len(unread)} of {len(members)} devices count as failed when they are reached, because "
        f"their agents read {in_words(missing)}: update them first ({shown})"
    )
    return [words]


def _waves(found: Forecast) -> list[Plain]:
    return [
        {
            "name": wave.name,
            "count": len(wave.devices),
            "devices": list(wave.devices[:SHOWN_MAX]),
            "offline": wave.offline,
            "approve": wave.approve,
            "soak_seconds": wave.soak_seconds,
        }
        for wave in found.waves
    ]


def _bytes(blobs: Blobs, version: Version) -> int:
    """Of the manifest and everything it names; what the manifest says when blobs are missing."""
    try:
        return sum(blobs.size_bytes(name) for name in set(names(version.manifest, blobs.read)))
    except MusterError:
        return len(version.manifest) + version.size_bytes
