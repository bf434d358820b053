"""One device of a simulated fleet: the real agent core on doubles of everything around it."""

import random
import shutil
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from muster_agent.app.ports import SupervisorPorts, SupervisorSettings
from muster_agent.app.supervisor import Supervisor
from muster_agent.base.clock import stamp
from muster_agent.fetch.actions import ChunkRun
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.fetch.meter import Allowance
from muster_agent.observe.outbox import Outbox
from muster_agent.observe.telemetry import Recording, Telemetry
from muster_agent.storage.current import CurrentLinks
from muster_agent.storage.state import open_state
from muster_agent.update.bundle import BundleInstall
from muster_protocol.wire import messages, topics
from muster_protocol.wire.directive import Source
from muster_protocol.wire.messages import ClockQuality, Facts
from sim import disk as d
from sim.catalogue import MODEL_MEMORY_BYTES, Trust, scratch
from sim.inputs import Inputs
from sim.network import Link
from sim.workers import Challenger, PairFolds, Ring, Rings, Window, Worker
from support.tuf_repository import NOW

if TYPE_CHECKING:
    from sim.world import World

OUTBOX_BYTES_MAX = 2560
"""Small, so that a partition is long enough for windows to be merged."""
FOLD_SECONDS = 30.0
METERED_BYTES_PER_SECOND = 300
SETTINGS: dict[str, Any] = {"retry_seconds": (15.0, 90.0), "restart_seconds": (0.5, 20.0)}
EVENTS_BETWEEN_TICKS = 6
TICKS_AT_ONCE_MAX = 2_000


class DeviceClock:
    """Implements ``muster_agent.base.clock.Clock``: drifts, may be decades wrong, may jump."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self._world = world
        self.rate = 1.0 + rng.uniform(-2e-4, 2e-4)
        self.booted = 0.0
        self.boots = 1
        self.wall_offset = 0.0
        self.trusted: ClockQuality = "synchronised"
        self._name = rng.randbytes(8)

    def monotonic(self) -> float:
        return 1.0 + (self._world.clock.now - self.booted) * self.rate

    def when(self, monotonic: float) -> float:
        """The world's time at which ``monotonic`` will be read."""
        return self.booted + (monotonic - 1.0) / self.rate

    def wall(self) -> float:
        return max(NOW + self._world.clock.now + self.wall_offset, 0.0)

    def boot_id(self) -> bytes:
        return self._name + self.boots.to_bytes(8, "big")

    def quality(self) -> ClockQuality:
        return self.trusted


class Device:
    def __init__(self, world: "World", name: str, labels: dict[str, str]) -> None:
        self.world, self.name, self.labels = world, name, labels
        self.rng = random.Random(f"{world.seed}/{name}")
        self.directory = scratch() / "world" / name
        self.clock = DeviceClock(world, self.rng)
        self.disk = d.Disk()
        self.disk.stall = self._stall
        self.slow_until = 0.0
        """Until then each file of a bundle takes the disk some seconds."""
        self.trust: Trust = world.doubles.trust()
        self.supervisor: Supervisor | None = None
        self.workers: list[Worker] = []
        self.rings: dict[str, Ring] = {}
        self.inbox: deque[Any] = deque()
        self.life = 0
        """Changes when everything that was under way on the device ends."""
        small = random.Random(f"{world.seed}/{name}/memory").random() < 0.3
        self.memory_bytes = (5 if small else 20) * MODEL_MEMORY_BYTES // 2
        self.received = 0
        """Bytes of chunks over HTTP."""
        self.turn = 0
        """Changes when what was asked for over HTTP isn't wanted any more."""
        self.starts = self.launched = 0
        self.stalled_until = 0.0
        self.machine_until = 0.0
        """Until then the machine it stands on forbids to swap."""
        self.weak_until = 0.0
        """Until then its power supply can't start a second model beside the first."""
        self.disturbed_at = 0.0
        """When something last happened that may leave a slot without a model for a moment."""
        self.inferences = 0
        self.inputs = Inputs(self.rng.random())
        self.windows: list[tuple[int, int, int]] = []
        """Rows, and in how many of them load and heat have moved, of a watched model's windows."""
        self.renewed = False
        """It was wiped once: what it had told may be incomplete."""
        self.lost = (0, 0)
        """Inferences (number, sum of numbers) that power cuts took before their window closed."""
        self.put = (0, 0)
        """... that are in windows the outbox has committed."""
        self.epochs: list[str] = []
        """Outbox epochs since the device was last wiped."""
        self.wiped_put: dict[str, tuple[int, int]] = {}
        self.rotten = False
        """A byte of an installed bundle has rotted: it may have to be fetched again first."""
        self.served_at: dict[str, float] = {}
        self.outbox_bytes_max = OUTBOX_BYTES_MAX * (4 if world.watching else 1)
        self._pending: list[Window] = []
        self._wake_at = float("inf")

    # Power

    def boot(self) -> None:
        """Start the agent on what its disk holds."""
        world = self.world
        self.life += 1
        self.starts += 1
        self.disturbed_at = world.clock.now
        self.inbox.clear()
        self.workers = []
        now = self.monotonic()
        self.world.actor = self.name
        try:
            self._build(now)
        except d.PowerCut:
            self.power_cut(world.rng.uniform(1.0, 10.0))
            return
        self.wake(0.0)
        world.watch.started(self)

    def _build(self, now: float) -> None:
        world = self.world
        store = world.doubles.store(self.directory / "store", free_bytes=self.disk.free_bytes)
        store.disk = self.disk
        store.clean()
        links = CurrentLinks(self.directory / "current", store)
        opened = open_state(self.directory, links.read())
        # It is in memory: what a power cut loses, the disk's double decides.
        opened.connection.execute("PRAGMA synchronous = OFF")
        self.state = world.doubles.state(opened.connection, trouble=opened.trouble)
        self.state.disk = self.disk
        self.state.committed, self.state.undone = self._committed, self._pending.clear
        self.store = store
        self.outbox: Outbox = world.doubles.outbox(
            self.state.connection,
            bytes_max=self.outbox_bytes_max,
            uniform=self.rng.random,
            new_epoch=self._new_epoch,
        )
        rings = Rings(self.rings, self.inputs)
        self.folds = PairFolds(
            store, report=self.outbox.put_event, monitors=self.state, open_ring=rings.open,
            counting=rings.counting, window_seconds=lambda: self.telemetry.window_seconds,
        )  # fmt: skip
        self.telemetry = Telemetry(
            self.directory / "rings", state=self.state, folds=self.folds,
            put=self._put, stamp=lambda: stamp(self.clock), rng=self.rng,
            window_seconds=world.window_seconds, now=now, fold_seconds=FOLD_SECONDS,
        )  # fmt: skip
        will = messages.encode(messages.Presence(online=False))
        self.link = Link(
            world.broker, self.name, (topics.up(self.name, "presence"), will), self.hear
        )
        self._forfeit()
        self.telemetry.recover(now)
        waiting = {f"{name}.ring" for name in self.state.recordings()}
        for name in self.rings.keys() - waiting:
            if not self.rings[name].recorded:
                self._lose(self.rings[name], 0)
            del self.rings[name]
        launcher = world.doubles.launcher(self)
        self.supervisor = Supervisor(
            SupervisorSettings(self.name, allowance=self._allowance(), **SETTINGS),
            SupervisorPorts(
                clock=self.clock, link=self.link, http=self, state=self.state,
                install=BundleInstall(store, ("onnx",), None, self.memory_free_bytes),
                links=links, trust=self.trust,
                launcher=launcher, challenge=launcher.challenge, telemetry=self.telemetry,
                outbox=self.outbox, facts=lambda: Facts(agent_version="simulated"), rng=self.rng,
                inputs=self, signs=self.folds.signs, rebaseline=self.folds.rebaseline,
            ),
            now,
        )  # fmt: skip
        self.supervisor.start(now)
        self.link.start()

    def _allowance(self) -> Allowance:
        metered = self.name in self.world.metered
        return Allowance(bytes_per_second=METERED_BYTES_PER_SECOND if metered else 0)

    def close(self) -> None:
        if self.supervisor is not None:
            self.state.cut()

    def _end(self) -> None:
        """Nothing of the agent and its workers goes on."""
        self.life += 1
        if self.supervisor is None:
            return
        self.supervisor = None
        self.link.stop()
        self.state.cut()
        self.store.cut()
        self.workers = []
        self.disturbed_at = self.world.clock.now

    def power_soon(self, seconds: float) -> None:
        life = self.life
        self.world.clock.after(seconds, lambda: self.life == life and self.power_cut(5.0))

    def power_cut(self, off_seconds: float) -> None:
        """The power goes, now, and comes back; rings that were not written back are gone."""
        self.note(f"power cut, back in {off_seconds:.0f} s")
        self._end()
        self.disk.fuse = None
        d.tear(self.directory / "store", self.rng)
        for ring in self.rings.values():
            if self.rng.random() < 0.5:
                ring.lost = True
        life = self.life

        def back() -> None:
            if self.life == life:
                self.clock.boots += 1
                self.clock.booted = self.world.clock.now
                self.note("boots")
                self.boot()

        self.world.clock.after(off_seconds, back)

    def _forfeit(self) -> None:
        """Of lost rings, what was not saved with the window that was open."""
        for worker_id, row in self.state.recordings().items():
            ring = self.rings.get(f"{worker_id}.ring")
            if ring is not None and ring.lost:
                recording = msgspec.msgpack.decode(row, type=Recording)
                self._lose(ring, recording.cursor if recording.fold else 0)

    def _lose(self, ring: Ring, saved: int) -> None:
        """Forfeit its rows from ``saved`` on, but for those in a window that is closed."""
        ring.lost = True
        rows = ring.numbers[max(saved, ring.closed) :]
        del ring.numbers[max(saved, ring.closed) :]
        self.lost = (self.lost[0] + len(rows), self.lost[1] + sum(rows))

    def crash(self) -> None:
        """The agent is killed; systemd starts it again. Rings and clock go on."""
        if self.supervisor is not None:
            self.note("the agent is killed and starts again")
            self._end()
            self.boot()

    def wipe(self) -> None:
        """A new card: everything but the name is gone; it is enrolled again."""
        self.note("wiped and enrolled again")
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        for epoch in self.epochs:
            self.wiped_put[epoch] = self.put
        self.epochs = []
        self.rings.clear()
        self.put = self.lost = (0, 0)
        self.inferences = 0
        self.renewed = True
        self.inputs.wiped()
        self.windows.clear()
        self.trust = self.world.doubles.trust()
        self.world.watch.wiped(self)
        self.clock.boots += 1
        self.clock.booted = self.world.clock.now
        self.boot()

    @property
    def running(self) -> bool:
        return self.supervisor is not None

    # Time

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def hear(self, event: Any) -> None:
        self.inbox.append(event)
        self.wake(0.0)

    def wake(self, seconds: float) -> None:
        """Run the agent's loop in so many seconds, unless it runs before."""
        when = max(self.world.clock.now + seconds, self.stalled_until)
        if when >= self._wake_at:
            return
        self._wake_at = when
        self.world.clock.at(when, lambda: self._run(when))

    def _run(self, when: float) -> None:
        if self._wake_at != when:
            return
        self._wake_at = float("inf")
        if self.supervisor is None:
            return
        try:
            self._loop(self.supervisor)
        except d.PowerCut:
            self.power_cut(self.world.rng.uniform(1.0, 20.0))
        self.world.watch.device(self)

    def _loop(self, supervisor: Supervisor) -> None:
        """As ``service.Service.loop`` does it, until nothing is due now."""
        self.world.actor = self.name
        for _ in range(TICKS_AT_ONCE_MAX):
            for _ in range(self.rng.randrange(1, EVENTS_BETWEEN_TICKS)):
                if not self.inbox:
                    break
                supervisor.handle(self.inbox.popleft(), self.monotonic())
            supervisor.tick(self.monotonic())
            if self.stalled_until > self.world.clock.now:
                self.wake(0.0)
                return
            now = self.monotonic()
            deadline = supervisor.deadline(now)
            if not self.inbox and deadline > now:
                if deadline < float("inf"):
                    self.wake(self.clock.when(deadline) - self.world.clock.now + 1e-6)
                return
        self.world.watch.violate("liveness", f"{self.name} is busy without an end at one moment")

    # What the supervisor's ports ask

    def get(self, number: int, source: Source, digest: str) -> None:
        """The HTTP source: the hub's API, over the same network."""
        world, life = self.world, self.life

        def answer() -> None:
            if self.life != life:
                return
            reachable = world.hub.running and self.link.connected
            data = world.catalogue.blobs.get(digest) if reachable else None
            self.received += len(data or b"")
            why = "" if data else "no answer"
            self.hear(HttpAnswer(number, digest, data, why, unreached=not reachable))

        world.clock.after(world.rng.uniform(0.1, 2.0), answer)

    def get_range(self, number: int, source: Source, run: ChunkRun) -> None:
        """Its files by ranges; now and then a proxy that knows none, or an answer cut short."""
        world, life, turn = self.world, self.life, self.turn
        habit = world.rng.choice(["whole", "whole", "whole", "cut short", "no ranges"])
        come = world.rng.randrange(len(run.digests)) if habit == "cut short" else len(run.digests)

        def answer() -> None:
            if (self.life, self.turn) != (life, turn):
                return
            reachable = world.hub.running and self.link.connected
            for place, digest in enumerate(run.digests):
                data = world.catalogue.blobs.get(digest)
                if habit == "no ranges" and reachable:
                    self.hear(HttpAnswer(number, digest, None, "answered 200", unserved=True))
                elif reachable and place < come:
                    self.received += len(data or b"")
                    self.hear(HttpAnswer(number, digest, data, "" if data else "no answer"))
                else:
                    why = "ended too early"
                    self.hear(HttpAnswer(number, digest, None, why, unreached=True))

        world.clock.after(world.rng.uniform(0.1, 2.0), answer)

    def received_bytes(self) -> int:
        return self.received

    def cancel(self) -> None:
        self.turn += 1

    def _stall(self) -> bool:
        slow = self.world.clock.now < self.slow_until
        if slow:
            self.stalled_until = self.world.clock.now + self.rng.uniform(3.0, 20.0)
            self.disturbed_at = self.stalled_until
        return slow

    def hold(self, _slot: str) -> str:
        return ""

    def interlock(self, _slot: str) -> str:
        return "the machine runs" if self.world.clock.now < self.machine_until else ""

    def bundle(self, manifest: str) -> Any:
        return self.directory / "store" / "bundles" / manifest

    def committed(self, slot: str, manifest: str) -> bool:
        runner = self.supervisor.runners.get(slot) if self.supervisor is not None else None
        pointer = runner.pointer if runner is not None else None
        return pointer is not None and pointer.goal.manifest == manifest

    def browns_out(self, slot: str, manifest: str) -> bool:
        """Whether starting a worker takes the power down: all but what boots is too much."""
        return self.world.clock.now < self.weak_until and not self.committed(slot, manifest)

    def memory_free_bytes(self) -> int:
        living = sum(not worker.ended for worker in self.workers)
        return max(self.memory_bytes - living * MODEL_MEMORY_BYTES, 1)

    def challenged(self, challenger: Challenger) -> None:
        """A challenger begins to start."""

    def seen(self, challenger: Challenger) -> None:
        """It ends while the agent looks."""

    def pairs(self, count: int) -> list[int]:
        """What a challenger compares; worlds that look at challengers number them."""
        return [0] * count

    def numbers(self, count: int) -> list[int]:
        first = self.inferences + 1
        self.inferences += count
        return list(range(first, first + count))

    def _new_epoch(self, size: int) -> bytes:
        made = self.rng.randbytes(size)
        self.epochs.append(made.hex())
        return made

    def _put(self, window: Window) -> None:
        self.outbox.put_summary(window.summary)
        self._pending.append(window)

    def _committed(self) -> None:
        for window in self._pending:
            counts = window.summary.counts
            self.put = (self.put[0] + counts.inferences, self.put[1] + counts.labels_unmatched)
            window.ring.closed = window.seen
            if window.moved is not None and counts.inferences:
                self.windows.append((counts.inferences, window.moved, window.hot))
        self._pending.clear()

    def note(self, what: str) -> None:
        self.world.trace.add(self.name, what)

    # What an observer sees

    def serving(self, slot: str) -> list[Worker]:
        return [worker for worker in self.workers if worker.slot == slot and worker.accepting]
