"""Workers that behave as the world says, and the rings and folds that count what they answered.

Each inference has a number of its own on its device. A summary carries how many there were and,
as its count of unmatched labels, the sum of their numbers: two sums that only agree at the hub
when each inference was counted exactly once, however windows were merged.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster_agent.observe.observing import Folds
from muster_agent.storage.content import StoreRefused
from muster_agent.update.processes import LaunchRefused, Running
from muster_agent.worker import events
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.summary import Summary, Tally
from muster_protocol.wire.chunks import sha256_hex
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Stamp
from sim.inputs import Inputs

if TYPE_CHECKING:
    from sim.device import Device

HEARTBEAT_SECONDS = (7.0, 14.0)
START_SECONDS = (0.5, 5.0)
STARTING_FAULTS = {
    "golden": (Refusal.GOLDEN_MISMATCH, "golden vector 1 differs"),
    "load": (Refusal.LOAD_FAILED, "the runtime refused the file"),
    "memory": (Refusal.NO_MEMORY, "not enough memory for a second model"),
    "hang": (Refusal.START_TIMEOUT, "not ready in time"),
}
"""Ways of a model to fail before it is ready; ``crash``, ``errors`` and ``killer`` come later, and
``late`` only once it is committed."""


@dataclass
class Ring:
    """A worker's ring file: it outlives worker and agent, and with luck a power cut."""

    numbers: list[int] = field(default_factory=list)
    closed: int = 0
    """Rows that are in a window committed to the outbox."""
    lost: bool = False
    recorded: bool = True
    """The database knows of it; it may not when the disk was full as it was made."""
    capacity_rows: int = 1 << 30
    pairs: bool = False
    """A challenger's: nobody got its answers."""
    differs: bool = False
    """Half of these are others than the champion's."""
    fails: bool = False
    """Of its model a third of the requests fail, once it is committed: nobody notices before."""

    def read(self, cursor: int = 0, rows_max: int = 4096) -> "Read":
        rows = self.numbers[cursor : cursor + rows_max]
        return Read(rows, cursor + len(rows), 0)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Read:
    rows: Any
    cursor: int
    overrun: int


class Fold:
    """An open window; implements ``muster_agent.observe.signs.Counting``."""

    trouble = ""

    def __init__(
        self,
        listing: Manifest,
        digest: str,
        trained_on: Baseline | None,
        opened: Stamp,
        ring: Ring,
        inputs: Inputs,
    ) -> None:
        self._listing, self._digest, self._trained_on = listing, digest, trained_on
        self._opened, self._ring, self._inputs = opened, ring, inputs
        self._count = self._sum = self._seen = 0

    @property
    def empty(self) -> bool:
        return self._count == 0

    @property
    def numbers(self) -> list[int]:
        """Of the inferences in the window."""
        return self._ring.numbers[self._seen - self._count : self._seen]

    @property
    def features(self) -> FeatureCounts | None:
        if self._trained_on is None or self.empty:
            return None
        return self._inputs.count(self._trained_on, self.numbers)

    def feed(self, rows: list[int], overrun: int = 0) -> None:
        self._count += len(rows)
        self._sum += sum(rows)
        self._seen += len(rows)

    def recall(self, rows: list[int]) -> None:
        """Labels are not simulated; the rows before the saved cursor were seen."""

    def add_cpu(self, seconds: float, joules: float) -> None:
        """Not counted."""

    def close(self, stamp: Stamp) -> list["Window"]:
        watched = self._trained_on is not None
        moved = self._inputs.moved(self.numbers) if watched else None
        hot = self._inputs.hot(self.numbers) if watched else 0
        made = Window(self.summary(stamp), self._ring, self._seen, moved, hot)
        self._count = self._sum = 0
        self._opened = stamp
        return [made]

    def summary(self, stamp: Stamp) -> Summary:
        failed = self._count // 3 if self._ring.fails else 0
        counts = Tally(inferences=self._count, errors_run=failed, labels_unmatched=self._sum)
        return Summary(
            self._listing.model, self._listing.version, self._digest, self._opened, stamp,
            counts=counts, features=self.features,
        )  # fmt: skip

    def save(self) -> bytes:
        return struct.pack("<QQQ", self._count, self._sum, self._seen)

    def restore(self, saved: bytes) -> None:
        self._count, self._sum, self._seen = struct.unpack("<QQQ", saved)


class PairsFold(Fold):
    """An open window of comparisons; implements ``muster_agent.observe.telemetry.Fold``."""

    def committed(self) -> None:
        """Nothing was found in it that isn't in the window itself."""

    def summary(self, stamp: Stamp) -> Summary:
        disagreed = self._count // 2 if self._ring.differs else 0
        return Summary(
            self._listing.model, self._listing.version, self._digest, self._opened, stamp,
            counts=Tally(compared=self._count, disagreed=disagreed),
        )  # fmt: skip


class PairFolds(Folds):
    """Pairs are counted as the rest is: by the double that the ring is opened with."""

    def pairs(
        self,
        champion: Goal,
        challenger: Goal,
        opened: Stamp,
        kept: Mapping[str, bytes] | None = None,
    ) -> Any:
        self._listing(champion, kept or {})
        listing = self._listing(challenger, kept or {})
        return self._counting(listing, challenger.manifest, None, opened, None)


@dataclass(frozen=True)
class Window:
    """A closed window on its way into the outbox, with what it closes of its ring."""

    summary: Summary
    ring: Ring
    seen: int
    moved: int | None
    """In how many of its rows the load has moved; None when the model isn't watched."""
    hot: int
    """In how many the heat has."""

    # What the device's own alert rule looks at

    @property
    def counts(self) -> Tally:
        return self.summary.counts

    @property
    def features(self) -> FeatureCounts | None:
        return self.summary.features

    @property
    def windows(self) -> int:
        return self.summary.windows


class Rings:
    """A device's ring files by name, as ``observing.Folds`` opens and counts them."""

    def __init__(self, rings: dict[str, Ring], inputs: Inputs) -> None:
        self._rings = rings
        self._inputs = inputs
        self._opened: Ring | None = None

    def open(self, path: Path) -> Ring:
        ring = self._opened = self._rings.get(path.name)
        if ring is None or ring.lost:
            raise FileNotFoundError(f"{path.name} is not there")
        return ring

    def counting(
        self, listing: Manifest, digest: str, trained_on: Baseline | None, opened: Stamp, _: Any
    ) -> Fold:
        assert self._opened is not None, "a ring is opened before its fold"
        kind = PairsFold if self._opened.pairs else Fold
        return kind(listing, digest, trained_on, opened, self._opened, self._inputs)


class Worker:
    """Implements ``muster_agent.update.processes.Worker``."""

    trusting = False
    """It loads what it finds without hashing it."""

    def __init__(self, device: "Device", worker_id: str, slot: str, goal: Goal, ring: Ring) -> None:
        self.device, self.id, self.slot, self.goal, self.ring = device, worker_id, slot, goal, ring
        self.accepting = self.ready = self.ended = False
        self.inferences = self.errors = 0
        self.ready_at = float("inf")
        self.content = ""
        """SHA-256 of the model file it loaded."""

    def start(self) -> None:
        world = self.device.world
        habit = world.habit(self.goal.manifest)
        if habit == "killer":
            self.device.note(f"worker {self.id} takes the whole device down")
            self.device.power_soon(world.rng.uniform(0.5, 3.0))
            return
        if self.device.browns_out(self.slot, self.goal.manifest):
            self.device.note(f"starting worker {self.id} is more than the power supply can give")
            self.device.power_soon(world.rng.uniform(0.2, 1.0))
            return
        pause = 60.0 if habit == "hang" else world.rng.uniform(*START_SECONDS)
        self._later(pause, lambda: self._started(habit))

    def _started(self, habit: str) -> None:
        path = self.device.bundle(self.goal.manifest) / "model.onnx"
        self.content = sha256_hex(path.read_bytes()) if path.is_file() else "gone"
        release = self.device.world.catalogue.by_manifest.get(self.goal.manifest)
        as_signed = release is not None and self.content == release.model_sha256
        if not (as_signed or self.trusting):
            self._fail(Refusal.FILE_MISMATCH, "model.onnx is not what the manifest says")
        elif habit in STARTING_FAULTS:
            self._fail(*STARTING_FAULTS[habit])
        else:
            self.ready, self.ready_at = True, self.device.world.clock.now
            self.device.hear(events.Ready(self.id, events.Facts(runtime="onnx")))
            self._beat_later()

    def _fail(self, refusal: Refusal, detail: str) -> None:
        self.ended = True
        self.device.hear(events.Failed(self.id, refusal, detail))

    def accept(self) -> None:
        self.accepting = not self.ended

    def pause(self) -> None:
        self.accepting = False

    def stop(self, grace_seconds: float) -> None:
        self.accepting = False
        self._later(self.device.world.rng.uniform(0.05, 1.0), lambda: self.die(0))

    def die(self, returncode: int) -> None:
        if not self.ended:
            self.ended, self.accepting = True, False
            self.device.hear(events.Exited(self.id, returncode))

    def serve(self) -> None:
        """Answer some requests, and let the supervisor know how it goes."""
        world = self.device.world
        habit = world.habit(self.goal.manifest)
        if self.accepting:
            asked = world.rng.randrange(20, 40)
            self.inferences += asked
            self.errors += asked if habit == "errors" else 0
            self.ring.numbers += self.device.numbers(asked)
            late = habit == "late" and self.device.committed(self.slot, self.goal.manifest)
            if late or (habit == "crash" and world.rng.random() < 0.5):
                self.die(-11)
                return
        counters = events.Counters(inferences=self.inferences, errors=self.errors)
        self.device.hear(events.Heartbeat(self.id, counters))
        self._beat_later()

    def _beat_later(self) -> None:
        self._later(self.device.world.rng.uniform(*HEARTBEAT_SECONDS), self.serve)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        life = self.device.life

        def act() -> None:
            if self.device.life == life and not self.ended:
                action()

        self.device.world.clock.after(seconds, act)


class Challenger(Worker):
    """It is shown what the champion answers, and answers nobody."""

    leaving = False

    def start(self) -> None:
        self.device.challenged(self)
        super().start()

    def stop(self, grace_seconds: float) -> None:
        self.leaving = True
        self.device.seen(self)
        super().stop(grace_seconds)

    def die(self, returncode: int) -> None:
        self.device.seen(self)
        super().die(returncode)

    def _fail(self, refusal: Refusal, detail: str) -> None:
        self.device.seen(self)
        super()._fail(refusal, detail)

    def serve(self) -> None:
        """Compare some, and let the supervisor know how it goes."""
        world = self.device.world
        habit = world.habit(self.goal.manifest)
        shown = world.rng.randrange(20, 40)
        self.inferences += shown
        self.ring.numbers += self.device.pairs(shown)
        if habit == "crash" and world.rng.random() < 0.5:
            self.die(-11)
            return
        self.device.hear(events.Heartbeat(self.id, events.Counters(inferences=self.inferences)))
        self._beat_later()


class Launcher:
    """Implements ``muster_agent.update.processes.Launcher``."""

    worker: type[Worker] = Worker
    challenger: type[Worker] = Challenger

    def __init__(self, device: "Device") -> None:
        self._device = device

    def launch(
        self, slot: str, goal: Goal, fallback: str | None, *, model: bool = True
    ) -> tuple[str, Worker]:
        if not model:
            raise LaunchRefused(Refusal.NO_RUNTIME, "the release declares no fallback")
        fails = self._device.world.habit(goal.manifest) == "fails"
        return self._launch(self.worker, slot, goal, Ring(fails=fails), None)

    def challenge(self, slot: str, goal: Goal, champion: Running) -> tuple[str, Worker]:
        """Implements ``muster_agent.challenger.challenger.Launch``."""
        differs = self._device.world.habit(goal.manifest) == "differs"
        ring = Ring(pairs=True, differs=differs)
        return self._launch(self.challenger, slot, goal, ring, champion.goal)

    def _launch(
        self, kind: type[Worker], slot: str, goal: Goal, ring: Ring, champion: Goal | None
    ) -> tuple[str, Worker]:
        device = self._device
        if not device.bundle(goal.manifest).is_dir():
            raise LaunchRefused(Refusal.FILE_MISMATCH, f"{goal.version} is not installed")
        device.launched += 1
        worker_id = f"{slot}-{device.starts}-{device.launched}"
        device.rings[f"{worker_id}.ring"] = ring
        try:
            device.telemetry.begin(worker_id, slot, goal, device.monotonic(), champion=champion)
        except StoreRefused as refused:
            del device.rings[f"{worker_id}.ring"]
            raise LaunchRefused(refused.refusal, str(refused)) from None
        ring.recorded = worker_id in device.state.recordings()
        worker = kind(device, worker_id, slot, goal, ring)
        device.workers.append(worker)
        return worker_id, worker
