"""Starting worker processes for installed bundles: sockets, rings and specifications."""

from collections.abc import Callable
from pathlib import Path

from muster_agent.base.config import Config
from muster_agent.base.system_error import as_refusal
from muster_agent.observe.telemetry import Telemetry
from muster_agent.storage.content import ChunksMissing, StoreRefused
from muster_agent.storage.files import make_directory
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.workers import LaunchRefused, Running, Worker
from muster_agent.worker.control import Shadow
from muster_agent.worker.events import WorkerEvent
from muster_agent.worker.process import WorkerProcess, WorkerSpec, threads_of
from muster_agent.worker.ring import Ring, RingError, RingLayout
from muster_agent.worker.slot_socket import SlotSockets, open_listeners
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import MusterError, Refusal
from muster_protocol.wire.manifest import Build, Manifest


class ProcessLauncher:
    """Implements ``update.workers.Launcher`` with real processes.

    A slot's sockets are opened once, with its first worker, and kept for the agent's life.
    """

    def __init__(
        self,
        config: Config,
        install: BundleInstall,
        telemetry: Telemetry,
        deliver: Callable[[WorkerEvent], None],
        *,
        boot: int,
        now: Callable[[], float],
        last_input: Callable[[str], Path | None] = lambda _worker: None,
    ) -> None:
        """``boot`` makes worker ids unique between starts of the agent.

        ``last_input`` makes the file in which a worker notes each request, if it is to.
        """
        self._config = config
        self._isolation = config.settings.isolation
        self._install = install
        self._telemetry = telemetry
        self._deliver = deliver
        self._boot = boot
        self._now = now
        self._last_input = last_input
        self._count = 0
        self._sockets: dict[str, SlotSockets] = {}

    def launch(
        self, slot: str, goal: Goal, fallback: str | None, *, model: bool = True
    ) -> tuple[str, Worker]:
        listing, bundle = self._installed(goal)
        build = self._build(listing) if model else None
        answers = listing.fallback(fallback)
        if not model and answers is None:
            raise LaunchRefused(
                Refusal.MALFORMED, f"{goal.model} {goal.version} declares no fallback"
            )
        remembers = answers is not None and answers.kind == "last_good"
        worker_id = self._next_id(slot)
        ring = self._ring(worker_id, RingLayout.of(listing, goal.manifest))
        first = slot not in self._sockets
        try:
            sockets = self._slot_sockets(slot)
        except MusterError as error:
            raise LaunchRefused(Refusal.DEVICE_FAULT, str(error)) from None
        except OSError as error:
            raise LaunchRefused(*as_refusal(error, Refusal.DEVICE_FAULT)) from None
        spec = WorkerSpec(
            worker_id=worker_id,
            bundle=bundle,
            manifest=listing,
            manifest_sha256=goal.manifest,
            build=build,
            threads=threads_of(build),
            sockets=sockets,
            ring=ring,
            fallback=answers.name if answers is not None else None,
            previous_ring=self._telemetry.previous_ring(slot) if remembers else None,
            first=first,
            isolation=self._isolation,
            last_input=self._last_input(worker_id) if model else None,
        )
        try:
            self._telemetry.begin(worker_id, slot, goal, self._now(), keep=remembers and model)
        except StoreRefused as refused:
            ring.unlink(missing_ok=True)
            raise LaunchRefused(refused.refusal, str(refused)) from None
        except (MusterError, ValueError) as error:
            ring.unlink(missing_ok=True)
            raise LaunchRefused(Refusal.MALFORMED, f"can't observe the model: {error}") from None
        return worker_id, WorkerProcess(spec, self._deliver)

    def challenge(self, slot: str, goal: Goal, champion: Running) -> tuple[str, Worker]:
        """A worker that replays what the champion's records; implements ``challenger.Launch``."""
        listing, bundle = self._installed(goal)
        theirs, _ = self._installed(champion.goal)
        build = self._build(listing)
        worker_id = self._next_id(slot)
        layout = RingLayout.of(theirs, champion.goal.manifest)
        ring = self._ring(worker_id, RingLayout.pairs(layout, listing, goal.manifest))
        spec = WorkerSpec(
            worker_id=worker_id,
            bundle=bundle,
            manifest=listing,
            manifest_sha256=goal.manifest,
            build=build,
            threads=threads_of(build),
            ring=ring,
            isolation=self._isolation,
            shadow=Shadow(
                ring=str(self._telemetry.ring_path(champion.id)),
                cpu_share=self._config.settings.challenger.cpu_share,
            ),
        )
        try:
            self._telemetry.begin(worker_id, slot, goal, self._now(), champion=champion.goal)
        except (MusterError, ValueError) as error:
            ring.unlink(missing_ok=True)
            raise LaunchRefused(Refusal.MALFORMED, f"can't compare the models: {error}") from None
        return worker_id, WorkerProcess(spec, self._deliver)

    def _installed(self, goal: Goal) -> tuple[Manifest, Path]:
        """The goal's manifest and where its bundle is; raises LaunchRefused."""
        try:
            listing = self._install.manifest(goal)
        except ChunksMissing:
            raise LaunchRefused(
                Refusal.FILE_MISMATCH, f"the manifest of {goal.model} {goal.version} is gone"
            ) from None
        except StoreRefused as refused:
            raise LaunchRefused(refused.refusal, str(refused)) from None
        bundle = self._install.store.bundle(goal.manifest)
        if bundle is None:
            raise LaunchRefused(
                Refusal.FILE_MISMATCH, f"{goal.model} {goal.version} is not installed"
            )
        return listing, bundle

    def _build(self, listing: Manifest) -> Build:
        try:
            return self._install.build(listing)
        except StoreRefused as refused:
            raise LaunchRefused(refused.refusal, str(refused)) from None

    def _next_id(self, slot: str) -> str:
        self._count += 1
        return f"{slot}-{self._boot}-{self._count}"

    def close(self) -> None:
        """Close every slot's listening socket."""
        for sockets in self._sockets.values():
            sockets.close()
        self._sockets.clear()

    def _slot_sockets(self, slot: str) -> SlotSockets:
        if slot not in self._sockets:
            path = self._config.socket_path(slot)
            make_directory(path.parent)
            self._sockets[slot] = open_listeners(path, self._config.tcp_port(slot))
        return self._sockets[slot]

    def _ring(self, worker_id: str, layout: RingLayout) -> Path:
        path = self._telemetry.ring_path(worker_id)
        rows = layout.capacity_for(self._config.settings.limits.ring_bytes)
        try:
            make_directory(path.parent, mode=0o700)
            Ring.create(path, layout, rows).close()
        except RingError as error:
            raise LaunchRefused(Refusal.NO_SPACE, str(error)) from None
        except OSError as error:
            raise LaunchRefused(*as_refusal(error, Refusal.DEVICE_FAULT)) from None
        return path
