"""What must hold of drift, in worlds that watch a model's inputs.

What a device's windows held is known here as it closed them; between them and the hub's monitor
lie the outbox, which may merge them, the network, and restarts of everything.
"""

import random
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlmodel import col, select

from muster_hub.storage.models import Alert, DriftState
from muster_protocol.wire.directive import Goal
from sim.catalogue import WATCHED, catalogue
from sim.inputs import HEAT, LOAD

if TYPE_CHECKING:
    from sim.device import Device
    from sim.world import World

MOVED_WINDOWS_MIN = 3
MOVED_ROWS_MIN = 60
"""So much of what has moved must have been told before the hub has to know."""
BACK_WINDOWS_MIN, BRIEF_WINDOWS_MAX = 6, 2
"""So many windows as they were, and what had moved in so few must have recovered: what lasts longer
stays for a while in the slow running mean (after three full windows an eighth of it, six later)."""
SLOT = "aux"
HOT_SHARE, COOLS_SHARE = 0.6, 0.6
HOT_SECONDS, COOLS_AFTER_SECONDS = (90.0, 200.0), (20.0, 120.0)
LOOK_SECONDS = 20.0


def story(world: "World") -> None:
    """Heat moves on some devices, whatever their load does, and on some of them comes back."""
    rng = random.Random(f"{world.seed}/drift")
    for name in sorted(world.devices):
        hot, cools = rng.random() < HOT_SHARE, rng.random() < COOLS_SHARE
        begins = rng.uniform(*HOT_SECONDS)
        ends = begins + rng.uniform(*COOLS_AFTER_SECONDS)
        if hot:
            world.clock.at(begins, lambda name=name: _heat(world, name))
        if hot and cools:
            world.clock.at(ends, lambda name=name: _cool(world, name))
    world.clock.after(LOOK_SECONDS, lambda: _look(world, {}))


def _heat(world: "World", name: str) -> None:
    device = world.devices[name]
    device.note("heat moves")
    device.inputs.heat(device.inferences + 1)


def _cool(world: "World", name: str) -> None:
    device = world.devices[name]
    device.note("heat comes back")
    device.inputs.cool(device.inferences + 1)


def _look(world: "World", before: dict[tuple[str, str], float]) -> None:
    """A finding that stands keeps the time since when it does, whatever else is found."""
    now = {
        (device, name): float(finding["since"])
        for device, view in _views(world).items()
        for name, finding in view["findings"].items()
    }
    for key in now.keys() & before.keys():
        world.watch.expect(
            now[key] >= before[key],
            "since when it drifts is kept",
            f"{key}: since {now[key]:.0f}, but it was known to drift since {before[key]:.0f}",
        )
    world.clock.after(LOOK_SECONDS, lambda: _look(world, now))


def _goal() -> Goal:
    return next(
        release.goal
        for release in catalogue().releases
        if (release.model, release.version) == WATCHED
    )


def manifest() -> str:
    return _goal().manifest


def _views(world: "World") -> dict[str, dict[str, Any]]:
    """Devices of which the hub has seen windows → what it says of their drift."""
    query = select(DriftState.device, DriftState.view).where(DriftState.manifest == manifest())
    with world.hub.store.read() as session:
        return {device: dict(view) for device, view in session.exec(query)}


def _alerts(world: "World") -> dict[str, list[str]]:
    """Device → features that stand in an alert of drift, one entry an alert."""
    query = select(Alert.device, Alert.detail).where(
        Alert.kind == "drift", Alert.state != "resolved", col(Alert.cleared_at).is_(None)
    )
    found: dict[str, list[str]] = {}
    with world.hub.store.read() as session:
        for device, detail in session.exec(query):
            found.setdefault(str(device), []).extend(detail["features"])
    return found


def _devices(world: "World", query: str) -> dict[str, int]:
    """Device → how many rows the query finds of it and the watched release."""
    statement = text(query)
    if "manifest" in query:
        statement = statement.bindparams(bindparam("manifest", manifest()))
    with world.hub.store.read() as session:
        return {row[0]: row[1] for row in session.connection().execute(statement)}


def alerted(world: "World") -> None:
    """While the fleet serves: each finding of a device has an alert of its own, nothing else has;
    none hides another."""
    alerts = _alerts(world)
    for name, view in _views(world).items():
        device = world.devices.get(name)  # who lies has windows, too, and says what it likes
        if device is None or name in world.watch.away or not device.committed(SLOT, manifest()):
            continue
        world.watch.expect(
            sorted(view["drifting"]) == sorted(alerts.get(name, [])),
            "each finding is alerted",
            f"{name} drifts in {view['drifting']}, its alerts are of {alerts.get(name, [])}",
        )


def check_events(world: "World", here: list["Device"]) -> None:
    """At the end: what has moved is known to drift, what has not is not."""
    views = _views(world)
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
        inputs, drifting = device.inputs, set(views.get(device.name, {}).get("drifting", ()))
        moved = inputs.moved_from is not None or inputs.hot_from is not None
        known = device.folds.signs(SLOT, _goal()).drifting
        world.watch.expect(
            moved or not (known or drifting),
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
        if device.renewed or not rows.get(device.name):
            continue
        for place, feature in ((1, LOAD), (2, HEAT)):
            seen = f"windows of {device.name} (rows, load, heat): {device.windows}"
            world.watch.expect(
                feature in drifting or not _must_show(device, place),
                "what has moved is known to drift",
                f"{feature} has moved and the hub knows of {sorted(drifting)} only; {seen}",
            )
            world.watch.expect(
                feature not in drifting or not _must_be_back(device, place),
                "what came back has recovered",
                f"{feature} is as it was and stands as drifting; {seen}",
            )


def _must_show(device: "Device", place: int) -> bool:
    """Whether windows enough have moved for good, beside whatever else has."""
    last = device.windows[-MOVED_WINDOWS_MIN:]
    moved = [window[place] for window in last]
    return (
        len(last) == MOVED_WINDOWS_MIN
        and all(n == window[0] for n, window in zip(moved, last, strict=True))
        and sum(moved) >= MOVED_ROWS_MIN
    )


def _must_be_back(device: "Device", place: int) -> bool:
    """Whether it was off but briefly, and has not moved in windows enough, and nothing else has."""
    last = device.windows[-BACK_WINDOWS_MIN:]
    back = len(last) == BACK_WINDOWS_MIN and not any(n for _, *moved in last for n in moved)
    return back and sum(window[place] > 0 for window in device.windows) <= BRIEF_WINDOWS_MAX
