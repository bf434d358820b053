"""The device that crash tests kill: the agent's own supervisor, journal, store, trust and links.

Only the broker, the clock and the inference itself are doubles; a worker here hashes its bundle as
a real one does. Every process that makes a world by the same name gets the same bytes and keys.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muster_agent.app import fsck
from muster_agent.storage.content import disk_free_bytes
from muster_agent.worker import events as w
from muster_agent.worker.bundle import OpenBundle, StartRefused, read_manifest
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Probation, Swap
from support.agent_world import SLOT, Device, ScriptedWorker, World

MODEL_BYTES = 140_000
"""Two chunks and an index."""
OLD = "1"
OFFLINE_SECONDS = 0.5
SETTLE_SECONDS = 18.0
"""Simulated; from a boot to the end of an update, the sweep after it included."""


def with_old() -> World:
    world = World(seed=7)
    world.direct(world.release(OLD, size=MODEL_BYTES, probation=Probation(seconds=1.0)))
    return world


def with_update() -> World:
    """A good version 2 is directed."""
    world = with_old()
    world.direct(world.release("2", size=MODEL_BYTES, probation=Probation(seconds=1.0)))
    world.clock.seconds += 100
    return world


def with_no_room_beside() -> World:
    """A good version 2 is directed, for which version 1 has to make room."""
    world = with_old()
    world.direct(
        world.release(
            "2", size=MODEL_BYTES, probation=Probation(seconds=1.0), swap=Swap("stop_start")
        )
    )
    world.clock.seconds += 100
    return world


def with_bad_update() -> World:
    """A version 3 is directed that errs in its probation."""
    world = with_old()
    bad = world.release("3", size=MODEL_BYTES, probation=Probation(seconds=30.0))
    world.erring.add(bad.manifest)
    world.direct(bad)
    world.clock.seconds += 100
    return world


WORLDS: dict[str, Callable[[], World]] = {
    "install": with_old,
    "update": with_update,
    "rollback": with_bad_update,
    "stop_start": with_no_room_beside,
}
MAY_SERVE = {
    "install": ([], [OLD]),
    "update": ([OLD], ["2"]),
    "rollback": ([OLD], ["3"]),
    "stop_start": ([OLD], ["2"]),
}
ENDS = {
    "install": ("committed", [OLD]),
    "update": ("committed", ["2"]),
    "rollback": ("failed", [OLD]),
    "stop_start": ("committed", ["2"]),
}
MEMORY_BYTES = {"stop_start": 3 * MIB // 2}
"""For models, each of which may take 1 MiB; elsewhere there is enough."""


class HashingWorker(ScriptedWorker):
    """Starts only what is on the disk as the manifest says."""

    def __init__(self, scripted: ScriptedWorker) -> None:
        vars(self).update(vars(scripted))

    def start(self) -> None:
        try:
            bundle = self.device.store.bundle(self.goal.manifest)
            assert bundle is not None
            manifest, _ = read_manifest(bundle, self.goal.manifest)
            with OpenBundle(bundle, manifest, manifest.builds[0]):
                pass
        except StartRefused as refused:
            self.device.inbox.append(w.Failed(self.id, refused.refusal, str(refused)))
        else:
            super().start()


class CrashDevice(Device):
    def launch(self, *args: Any, **options: Any) -> tuple[str, ScriptedWorker]:
        worker_id, scripted = super().launch(*args, **options)
        self.workers[-1] = HashingWorker(scripted)
        return worker_id, self.workers[-1]

    def start(self) -> None:
        self.boot(free_bytes=1 << 40)


def template(name: str, directory: Path) -> None:
    """The disk before the story ``name`` begins: nothing, or version 1 committed."""
    if name == "install":
        CrashDevice(with_old(), directory)
        return
    device = CrashDevice(with_old(), directory)
    device.start()
    device.run(SETTLE_SECONDS)
    assert (device.step, device.serving) == ("committed", [OLD])
    device.cut()
    assert disk_free_bytes(directory) > 1 << 24, "the crash tests need some space"


def live(name: str, directory: Path) -> None:
    """The story from boot to its end."""
    device = CrashDevice(WORLDS[name](), directory)
    device.memory_bytes = MEMORY_BYTES.get(name, 0)
    device.start()
    device.run(SETTLE_SECONDS)
    assert (device.step, device.serving) == ENDS[name]
    device.cut()


def after_crash(name: str, directory: Path) -> list[str]:
    """Everything that is wrong with what a crash has left; empty: the promise held."""
    wrong = []
    if name != "install":
        wrong += [f"before the boot: {line}" for line in link_problems(directory)]
    try:
        wrong += _life_after(name, directory)
    except Exception as error:
        wrong.append(f"the agent fell over: {type(error).__name__}: {error}")
    return wrong


def _life_after(name: str, directory: Path) -> list[str]:
    wrong = []
    device = CrashDevice(WORLDS[name](), directory)
    device.memory_bytes = MEMORY_BYTES.get(name, 0)
    device.linked = False
    device.start()
    device.run(OFFLINE_SECONDS)
    if device.serving not in MAY_SERVE[name]:
        wrong.append(f"without a link it serves {device.serving}")
    wrong += [f"fsck without a link: {line}" for line in fsck.problems(directory)]
    device.link.start()
    device.run(2 * SETTLE_SECONDS)
    if (device.step, device.serving) != ENDS[name]:
        wrong.append(f"in the end it is {device.step}, {device.refusal}, serves {device.serving}")
    if 0 < device.memory_bytes < device.memory_used_most:
        wrong.append(f"its models took {device.memory_used_most} bytes of memory")
    device.cut()
    wrong += [f"fsck in the end: {line}" for line in fsck.problems(directory)]
    wrong += [f"in the end: {line}" for line in link_problems(directory)]
    return wrong


def link_problems(directory: Path) -> list[str]:
    """Other programs follow the link at any time: what it names must be whole."""
    link = directory / "current" / SLOT
    bundle = link.resolve()
    path = bundle / "manifest.json"
    if not link.is_symlink() or not path.is_file():
        return [f"{link.name} names no installed bundle"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != bundle.name:
        return [f"{link.name} names a bundle with another manifest"]
    manifest, _ = read_manifest(bundle)
    try:
        with OpenBundle(bundle, manifest, manifest.builds[0]):
            return []
    except StartRefused as refused:
        return [f"{link.name}: {refused}"]
