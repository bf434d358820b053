"""What must hold of drift, in worlds that watch a model's inputs.

What a device's windows held is known here as it closed them; between them and the hub's monitor
lie the outbox, which may merge them, the network, and restarts of everything.
"""

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, text
from sqlmodel import select

from muster_hub.storage.models import DriftState
from muster_protocol.signals.rule import Rule
from muster_protocol.wire.directive import Goal
from sim.catalogue import WATCHED, catalogue

if TYPE_CHECKING:
    from sim.device import Device
    from sim.world import World

MOVED_WINDOWS_MIN = 3
MOVED_ROWS_MIN = 60
"""So much of what has moved must have been told before the hub has to know."""
LEARNT_WINDOWS = Rule.warmup_windows + 2
SLOT = "aux"


def _goal() -> Goal:
    return next(
        release.goal
        for release in catalogue().releases
        if (release.model, release.version) == WATCHED
    )


def manifest() -> str:
    return _goal().manifest


def _drifting(world: "World") -> dict[str, bool]:
    """Devices of which the hub has seen windows → whether it says they drift."""
    query = select(DriftState.device, DriftState.view).where(DriftState.manifest == manifest())
    with world.hub.store.read() as session:
        return {device: bool(view["drifting"]) for device, view in session.exec(query)}


def _devices(world: "World", query: str) -> dict[str, int]:
    """Device → how many rows the query finds of it and the watched release."""
    statement = text(query)
    if "manifest" in query:
        statement = statement.bindparams(bindparam("manifest", manifest()))
    with world.hub.store.read() as session:
        return {row[0]: row[1] for row in session.connection().execute(statement)}


def alerted(world: "World") -> None:
    """While the fleet serves: whom the hub says to drift has an alert, and nobody else has."""
    alerts = _devices(
        world,
        "SELECT device, count(*) FROM alert WHERE kind = 'drift' AND state != 'resolved' "
        "AND cleared_at IS NULL GROUP BY device",
    )
    for name, drifting in _drifting(world).items():
        device = world.devices[name]
        if name in world.watch.away or not device.committed(SLOT, manifest()):
            continue
        world.watch.expect(
            drifting == (name in alerts),
            "drift is alerted",
            f"{name} {'drifts' if drifting else 'does not drift'}, "
            f"it has {alerts.get(name, 0)} alerts of drift",
        )


def check_events(world: "World", here: list["Device"]) -> None:
    """At the end: what has moved is known to drift, what has not is not."""
    drifting = _drifting(world)
    rows = _devices(
        world,
        "SELECT device, count(*) FROM summary_window WHERE manifest = :manifest AND n > 0 "
        "GROUP BY device",
    )
    events = _devices(
        world,
        "SELECT device, count(*) FROM event WHERE kind = 'drift' AND manifest = :manifest "
        "GROUP BY device",
    )
    for device in here:
        moved = device.inputs.moved_from is not None
        known = device.folds.signs(SLOT, _goal()).drifting
        world.watch.expect(
            moved or not (known or drifting.get(device.name)),
            "nothing drifts that has not moved",
            f"{device.name} is told to drift, but its inputs are as they were",
        )
        world.watch.expect(
            not known
            or device.name in events
            or device.renewed
            or device.outbox.stats().dropped_events,
            "what a device knows of drift is told",
            f"{device.name} drifts by its own word, of which the hub has no event",
        )
        if _must_show(device, rows.get(device.name, 0)):
            world.watch.expect(
                drifting.get(device.name),
                "what has moved is known to drift",
                f"the hub has {rows.get(device.name, 0)} windows of {device.name}, whose inputs "
                f"have moved: {device.windows}",
            )


def _must_show(device: "Device", rows: int) -> bool:
    """Whether the hub had windows enough to learn what is normal, and then to see that it moved.

    Where a window holds some of both, a monitor that is still learning takes it for restlessness.
    """
    if device.renewed or any(0 < moved < n for n, moved in device.windows):
        return False
    after = [n for n, moved in device.windows if moved]
    learnt = rows - len(after) >= LEARNT_WINDOWS or len(after) == len(device.windows)
    return (
        learnt
        and rows > LEARNT_WINDOWS
        and len(after) >= MOVED_WINDOWS_MIN
        and sum(after[-MOVED_WINDOWS_MIN:]) >= MOVED_ROWS_MIN
    )
