"""A device in a world of its own: memory broker, own clock, scripted workers, real disk and trust.

``World.run`` moves time only when nothing else is left to do, so a minute costs milliseconds and
every run with the same seed is the same. ``Fuse`` cuts the power at the n-th step of a device.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from muster_agent.app.ports import (
    LogWatch,
    NoLogWatch,
    Shutdown,
    SupervisorPorts,
    SupervisorSettings,
)
from muster_agent.app.supervisor import Supervisor
from muster_agent.base.clock import stamp
from muster_agent.feeds.watch import FeedWatch, NoFeeds
from muster_agent.fetch.actions import ChunkRun
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.link.link import LinkEvent
from muster_agent.link.memory import MemoryBroker, MemoryLink
from muster_agent.observe.crash_inputs import CrashInputs
from muster_agent.observe.observing import Folds
from muster_agent.observe.outbox import Outbox, SampleBounds
from muster_agent.observe.sampling.releases import BundleLimits
from muster_agent.observe.sampling.sampler import Sampler, SamplerPorts
from muster_agent.observe.sampling.sealing import SampleKeys
from muster_agent.observe.telemetry import Telemetry
from muster_agent.selfupdate.wanted import AgentPorts
from muster_agent.storage.current import CurrentLinks
from muster_agent.storage.state import StateDatabase, open_state
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import ClockReading
from muster_agent.update import interlocks
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.preflight import Hardware
from muster_agent.update.processes import LaunchRefused, Running
from muster_agent.worker import events as w
from muster_agent.worker.watch import FROM_OUTSIDE
from muster_protocol.wire import chunks, manifest, messages, sampling, topics
from muster_protocol.wire import directive as d
from muster_protocol.wire.directive import Goal, Slot, Source
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.messages import Facts
from support.agent_faults import (
    Fuse,
    FusedState,
    FusedStore,
    PowerCut,
    WorldClock,
)
from support.tuf_repository import NOW, Repository

DEVICE = "dev-1"
SLOT = "main"


class ScriptedWorker:
    """A worker that does what the world's script says of its manifest."""

    def __init__(
        self, device: "Device", worker_id: str, slot: str, goal: Goal, *, model: bool
    ) -> None:
        self.device, self.id, self.slot, self.goal = device, worker_id, slot, goal
        self.model = model
        """False: it answers with the manifest's fallback."""
        self.accepting = False
        self.alive = False
        self.ready_at = 0.0
        self.inferences = 0
        self.errors = 0

    def start(self) -> None:
        self.device.fuse.burn()
        self.alive = True
        if not self.model:
            self.device.inbox.append(w.Ready(self.id, w.Facts()))
            return
        if self.goal.manifest in self.device.world.killing:
            raise PowerCut
        bundle = self.device.store.bundle(self.goal.manifest)
        if bundle is None or (bundle / "model.onnx").read_bytes()[:3] == b"rot":
            self.alive = False
            self.device.inbox.append(w.Failed(self.id, Refusal.FILE_MISMATCH, "rotten"))
            return
        fault = self.device.world.faults.get(self.goal.manifest)
        if fault is not None:
            self.alive = False
            self.device.inbox.append(w.Failed(self.id, fault, "as the script says"))
            return
        self.device.memory_used_most = max(
            self.device.memory_used_most, self.device.memory_used_bytes
        )
        slow = self.device.world.slow.get(self.goal.manifest, 0.0)
        self.ready_at = self.device.world.clock.seconds + slow
        if not slow and self.goal.manifest not in self.device.world.hanging:
            self.device.inbox.append(w.Ready(self.id, w.Facts(runtime="onnx")))

    def accept(self) -> None:
        self.device.fuse.burn()
        self.accepting = True

    def pause(self) -> None:
        self.device.fuse.burn()
        self.accepting = False

    def stop(self, grace_seconds: float) -> None:
        self.device.fuse.burn()
        if self.alive:
            self.die(0)

    def die(self, returncode: int = -11) -> None:
        self.alive = self.accepting = False
        from_outside = -returncode in FROM_OUTSIDE
        self.device.inbox.append(w.Exited(self.id, returncode, from_outside=from_outside))

    def beat(self) -> None:
        if self.ready_at > self.device.world.clock.seconds:
            return
        if self.ready_at and self.device.world.slow.get(self.goal.manifest):
            self.ready_at = 0.0
            self.device.inbox.append(w.Ready(self.id, w.Facts(runtime="onnx")))
        if self.accepting:
            self.inferences += 10
            self.errors += 10 if self.goal.manifest in self.device.world.erring else 0
        counters = w.Counters(inferences=self.inferences, errors=self.errors)
        self.device.inbox.append(w.Heartbeat(self.id, counters))


class World:
    """The hub's side: catalogue, broker, HTTP source; and what the scripts of workers say."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.clock = WorldClock()
        self.broker = MemoryBroker()
        self.repository = Repository(rng=random.Random(seed))
        self.faults: dict[str, Refusal] = {}
        self.erring: set[str] = set()
        self.slow: dict[str, float] = {}
        """Seconds that a manifest's worker takes to become ready."""
        self.killing: set[str] = set()
        """Manifests whose start takes the whole device down."""
        self.hanging: set[str] = set()
        """Manifests whose workers say nothing after their start."""
        self.http: dict[str, bytes] = {}
        self.ranges = True
        """Whether the HTTP sources serve ranges of files."""
        self.generation = 0
        self.publish_catalogue()

    def publish_catalogue(self) -> None:
        for file, data in self.repository.files.items():
            self.broker.publish(topics.tuf(file), data, retain=True)

    def release(
        self,
        version: str,
        *,
        size: int = 300_000,
        signed: bool = True,
        beside: Mapping[str, bytes] = MappingProxyType({}),
        **fields: Any,
    ) -> Goal:
        """Make a version with a model file of ``size`` random bytes, sign it and publish it all.

        ``beside`` are other files of the bundle by name.
        """
        files = {"model.onnx": self.rng.randbytes(size), "golden.npz": self.rng.randbytes(100)}
        files |= beside
        entries = []
        for path, data in files.items():
            names = self.publish_chunks(chunks.cut(data))
            index = (
                self.publish_chunks(chunks.cut(chunks.index_of(names))) if len(names) > 1 else ()
            )
            sha256 = hashlib.sha256(data).hexdigest()
            entries.append(manifest.File(path, len(data), sha256, tuple(index)))
        made = manifest.Manifest(**{
            "model": "digits", "version": version, "created": 0,
            "inputs": (manifest.Tensor("x", "FP32", (-1, 4)),),
            "outputs": (manifest.Tensor("p", "FP32", (-1, 3)),),
            "builds": (manifest.Build("onnx", "model.onnx", 1 << 20),),
            "files": tuple(entries), "golden": manifest.Golden("golden.npz"),
            "probation": manifest.Probation(seconds=30.0), **fields,
        })  # fmt: skip
        data = manifest.encode(made)
        (digest,) = self.publish_chunks([memoryview(data)])
        if signed:
            self.repository.release("digits", version, data)
            self.publish_catalogue()
        return Goal("digits", version, digest, len(data))

    def publish_chunks(self, pieces: Any) -> tuple[str, ...]:
        names = []
        for piece in pieces:
            name = chunks.sha256_hex(piece)
            self.broker.publish(topics.chunk(name), bytes(piece), retain=True)
            self.http[name] = bytes(piece)
            names.append(name)
        return tuple(names)

    def direct(self, goal: Goal | None, *, sources: int = 0, **fields: Any) -> None:
        """Sign and publish a directive with this goal for the slot."""
        self.generation += 1
        built = d.Directive(**{
            "device": DEVICE, "epoch": 1, "generation": self.generation, "issued": NOW,
            "expires": NOW + 86_400, "slots": {SLOT: Slot(goal)} if goal else {},
            "window_seconds": 10.0,
            "sources": tuple(Source(f"https://hub-{n}.test/chunks") for n in range(sources)),
            **fields,
        })  # fmt: skip
        envelope = self.repository.envelope(d.encode(built))
        self.broker.publish(topics.down(DEVICE, "directive"), envelope, retain=True)


class Device:
    """One agent on one directory; ``boot`` it again after ``cut``."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world, self.directory = world, directory
        self.fuse = Fuse()
        self.inbox: deque[Any] = deque()
        self.workers: list[ScriptedWorker] = []
        self.reports: list[messages.Report] = []
        self.events: list[messages.Event] = []
        self.linked = True
        self.log_watch: Callable[[StateDatabase], LogWatch] = lambda _state: NoLogWatch()
        self.hardware = Hardware()
        self.free_bytes = 1 << 40
        self.memory_bytes = 0
        """For models; 0: as much as they want, and nothing is known of it."""
        self.memory_used_most = 0
        self.samples: list[tuple[sampling.Sample, sampling.Content]] = []
        self.asked: list[messages.GrantRequest] = []
        """Requests for a permit to swap that the hub has heard."""
        self.forbidden = ""
        """What the machine says against a swap."""
        self.challengers: list[ScriptedWorker] = []
        self.may_be_sampled = True
        """What ``agent.toml`` says."""
        self.feeds: FeedWatch = NoFeeds()
        self.agent: AgentPorts | None = None
        """What a launcher lets the agent do with itself."""
        self.supervisor: Supervisor | None = None
        (directory / "trust").mkdir(parents=True, exist_ok=True)
        (directory / "trust" / "root.json").write_bytes(world.repository.factory_root)
        self.launched = 0
        self.gets: list[str] = []
        self.ranges: list[ChunkRun] = []

    def boot(self, fuse: Fuse | None = None, free_bytes: int = 1 << 40, **settings: Any) -> None:
        """Start the agent; raises PowerCut when the fuse says so."""
        world, now = self.world, self.world.clock.monotonic()
        self.fuse = fuse or Fuse()
        self.inbox.clear()
        self.workers.clear()
        self.challengers.clear()
        self.free_bytes = free_bytes
        store = FusedStore(self.directory / "store", free_bytes=lambda _path: self.free_bytes)
        store.fuse = self.fuse
        store.clean()
        links = CurrentLinks(self.directory / "current", store)
        opened = open_state(self.directory, links.read())
        self.state = FusedState(opened.connection, trouble=opened.trouble)
        self.state.fuse = self.fuse
        keys = SampleKeys(self.directory / "samples")
        self.outbox = Outbox(
            self.state.connection,
            uniform=world.rng.random,
            samples=SampleBounds(1 << 20, open=keys.open),
        )
        self.link = MemoryLink(
            world.broker,
            DEVICE,
            (topics.up(DEVICE, "presence"), b"\x81\xa6online\xc2"),
            self.deliver,
        )
        self.store = store
        install = self.install = BundleInstall(
            store, ("onnx",), self.hardware, self.memory_free_bytes
        )
        trust = TrustStore(self.directory / "trust")
        self.sampler = Sampler(
            SamplerPorts(
                state=self.state,
                outbox=self.outbox,
                keys=keys,
                releases=BundleLimits(store),
                clock=world.clock,
                trusted_now=lambda: trust.now(
                    ClockReading(world.clock.wall(), world.clock.quality())
                ),
                day=lambda: int(world.clock.wall() // 86_400),
                rng=world.rng,
                allowed=self.may_be_sampled,
            ),
            now,
        )
        folds = self.folds = Folds(store, report=self.outbox.put_event, offer=self.sampler.offer)
        telemetry = Telemetry(
            self.directory / "rings", state=self.state, folds=folds,
            put=self.outbox.put_summary, stamp=lambda: stamp(world.clock), rng=world.rng,
            window_seconds=10.0, now=now,
        )  # fmt: skip
        self.crash_inputs = CrashInputs(self.directory / "crashes")
        self.supervisor = Supervisor(
            SupervisorSettings(DEVICE, **settings),
            SupervisorPorts(
                clock=world.clock, link=self.link, http=self, state=self.state, install=install,
                links=links, trust=trust, launcher=self,
                telemetry=telemetry, outbox=self.outbox,
                facts=lambda: Facts(agent_version="test"), rng=world.rng, signs=folds.signs,
                inputs=self, directory=self.directory, crash_inputs=self.crash_inputs,
                challenge=self.challenge, sampling=self.sampler, feeds=self.feeds,
                log=self.log_watch(self.state),
                agent=self.agent,
            ),
            now,
        )  # fmt: skip
        self.supervisor.start(now)
        if self.linked:
            self.link.start()

    def cut(self) -> None:
        """The power goes: what is not on the disk is lost."""
        self.link.stop()
        self.state.close()
        self.supervisor = None
        self.world.clock.boots += 1

    def deliver(self, event: LinkEvent) -> None:
        self.inbox.append(event)

    @property
    def memory_used_bytes(self) -> int:
        goals = [
            worker.goal
            for worker in [*self.workers, *self.challengers]
            if worker.alive and worker.model
        ]
        return sum(self.install.manifest(goal).builds[0].memory_bytes for goal in goals)

    def memory_free_bytes(self) -> int:
        return max(self.memory_bytes - self.memory_used_bytes, 1) if self.memory_bytes else 0

    # Launcher, HTTP and the machine's inputs, as the supervisor sees them

    def hold(self, slot: str) -> str:
        return interlocks.DeviceConditions(self.directory, {}).hold(slot)

    def interlock(self, _slot: str) -> str:
        return self.forbidden

    def launch(
        self, slot: str, goal: Goal, fallback: str | None, *, model: bool = True
    ) -> tuple[str, ScriptedWorker]:
        self.fuse.burn()
        self.launched += 1
        if not model and self.install.manifest(goal).fallback(fallback) is None:
            raise LaunchRefused(Refusal.MALFORMED, "no fallback")
        worker = ScriptedWorker(self, f"{slot}-{self.launched}", slot, goal, model=model)
        self.workers.append(worker)
        return worker.id, worker

    def challenge(self, slot: str, goal: Goal, champion: Running) -> tuple[str, ScriptedWorker]:
        self.fuse.burn()
        assert any(worker.id == champion.id and worker.accepting for worker in self.workers)
        self.launched += 1
        worker = ScriptedWorker(self, f"{slot}-{self.launched}", slot, goal, model=True)
        self.challengers.append(worker)
        return worker.id, worker

    def get(self, number: int, source: Source, digest: str) -> None:
        data = self.world.http.get(digest)
        self.gets.append(digest)
        self.inbox.append(HttpAnswer(number, digest, data, "" if data else "answered 404"))

    def get_range(self, number: int, source: Source, run: ChunkRun) -> None:
        self.ranges.append(run)
        for digest in run.digests:
            data = self.world.http.get(digest)
            if not self.world.ranges:
                answer = HttpAnswer(number, digest, None, "answered 200", unserved=True)
            else:
                answer = HttpAnswer(number, digest, data, "" if data else "answered 404")
            self.inbox.append(answer)

    def received_bytes(self) -> int:
        return 0

    def cancel(self) -> None:
        """What has come already stays: it was on its way."""

    def grant(self, *, valid: float = 0.0, retry: float = 10.0, reason: str = "") -> None:
        """The hub answers the device's latest request; a permit for ``valid`` seconds, or none."""
        asked = self.asked[-1]
        answer = messages.Grant(
            nonce=asked.nonce, slot=asked.slot, given=valid > 0, valid_seconds=valid,
            retry_seconds=retry, reason=reason,
        )  # fmt: skip
        self.world.broker.publish(topics.down(DEVICE, "grant"), messages.encode(answer))

    # Time

    def run(self, seconds: float) -> None:
        """Let the device live; raises PowerCut when its fuse blows."""
        clock, supervisor = self.world.clock, self.supervisor
        assert supervisor is not None
        end = clock.seconds + seconds
        beat = clock.seconds + 1.0
        while clock.seconds < end:
            self.world.broker.pump()
            self._hear()
            if self.inbox:
                supervisor.handle(self.inbox.popleft(), clock.seconds)
            elif supervisor.deadline(clock.seconds) > clock.seconds:
                clock.seconds = min(supervisor.deadline(clock.seconds), beat, end)
                if clock.seconds >= beat:
                    beat = clock.seconds + 1.0
                    for worker in [*self.workers, *self.challengers]:
                        if worker.alive:
                            worker.beat()
            supervisor.tick(clock.seconds)
        self._hear()

    def stop(self) -> None:
        assert self.supervisor is not None
        self.supervisor.handle(Shutdown(), self.world.clock.seconds)
        self.run(2.0)

    def _hear(self) -> None:
        """The hub reads what the device has published and acknowledges rows."""
        published = self.world.broker.published
        while published:
            message = published.popleft()
            leaf = topics.parse_up(message.topic).leaf
            if leaf == "report":
                self.reports.append(messages.decode(message.payload, messages.Report))
            elif leaf == "grant":
                self.asked.append(messages.decode(message.payload, messages.GrantRequest))
            elif leaf in ("event", "telemetry", "sample"):
                batch = messages.decode(message.payload, messages.Batch)
                stream: messages.Stream = "summary" if leaf == "telemetry" else leaf
                if stream == "sample":
                    self.samples += [
                        sampling.decode(row.payload) for row in batch.rows if row.payload
                    ]
                if stream == "event":
                    rows = [messages.decode(row.payload, messages.Event) for row in batch.rows]
                    self.events += [event for event in rows if event not in self.events]
                ack = messages.Ack(1, stream, batch.epoch, batch.rows[-1].sequence)
                self.world.broker.publish(topics.down(DEVICE, "ack"), messages.encode(ack))

    # What an observer sees

    @property
    def serving(self) -> list[str]:
        """Versions whose models answer requests now."""
        return [worker.goal.version for worker in self.workers if worker.accepting and worker.model]

    @property
    def falling_back(self) -> list[str]:
        """Versions whose fallback answers requests now."""
        accepting = [worker for worker in self.workers if worker.accepting]
        return [worker.goal.version for worker in accepting if not worker.model]

    def report(self) -> messages.SlotReport:
        """The slot as the device would report it now."""
        assert self.supervisor is not None
        return self.supervisor.report().slots[SLOT]

    @property
    def step(self) -> str:
        assert self.supervisor is not None
        return self.supervisor.runners[SLOT].row.state

    @property
    def refusal(self) -> str | None:
        assert self.supervisor is not None
        return self.supervisor.runners[SLOT].row.refusal

    def events_of(self, kind: str) -> list[messages.Event]:
        return [event for event in self.events if event.kind == kind]
