"""The parts of the hub, wired around its database, and which of them a process has."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, TypeVar

from muster_hub.alerts.sender import WebhookSender
from muster_hub.api.hub import Hub
from muster_hub.app import processes
from muster_hub.app.group import Group, Publishing
from muster_hub.app.processes import Registration
from muster_hub.app.watch import Watch
from muster_hub.loop.trainings import Trainings
from muster_hub.metrics.tracer import Tracer
from muster_hub.mqtt.access import BrokerFiles, Gatekeeper
from muster_hub.mqtt.broker import Broker, managed_config
from muster_hub.mqtt.client import BrokerAddress
from muster_hub.mqtt.control import take_lock
from muster_hub.mqtt.external import External
from muster_hub.mqtt.ingest import Ingest
from muster_hub.mqtt.publisher import Publisher
from muster_hub.mqtt.renewals import Renewals
from muster_hub.mqtt.separate import SeparateBroker
from muster_hub.mqtt.showing import Showing
from muster_hub.mqtt.takeover_log import TakeoverLog
from muster_hub.reconcile import lease
from muster_hub.reconcile.engine import Engine
from muster_hub.reconcile.leader import Leader, Startable
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.rollouts.tracing import Traces
from muster_hub.settings.parts import EVERY, PARTS, Part
from muster_hub.storage.wakes import Kind, Wakes

Started = TypeVar("Started", bound=Startable)


class FleetServices:
    """The parts of the hub that this process has, besides the API, wired around an opened ``Hub``.

    With ``process`` it is one of several. Then the publisher runs in one of them at a time, and so
    does what speaks to others than devices; the engine sees to that itself.
    """

    def __init__(
        self,
        hub: Hub,
        parts: frozenset[Part] = EVERY,
        process: Registration | None = None,
    ) -> None:
        self._hub = hub
        self._parts = parts
        config, now, beats = hub.config, hub.clock, hub.heartbeats
        self._process = process
        self._wakes = None if process is None else Wakes(hub.store, process.id, heartbeats=beats)
        self._holder = f"{socket.gethostname()}:{config.data.resolve()}"
        if process is not None:
            self._holder = process.name
        self.broker: Broker | SeparateBroker | None = None
        self._broker_lock: IO[str] | None = None
        self._external: External | None = None
        self._gatekeeper: Callable[[], Gatekeeper] | None = None
        self._address: BrokerAddress | None = None
        if not parts.isdisjoint(("ingest", "publisher")):
            self._reach_broker()
        self._bundles = Bundles(hub.store, hub.blobs)
        self._traces = Traces.of(hub.capability_key, config.traces.share)
        self._publishing: Publishing | Leader[Publishing] | None = None
        self._outgoing: Group | Leader[Group] | None = None
        self.engine: Engine | None = None
        self.ingest: Ingest | None = None
        if "publisher" in parts:
            self._publishing = self._led("publisher", self._make_publishing)
        if "engine" in parts:
            self.engine = self._make_engine()
            self._outgoing = self._led("outgoing", self._make_outgoing)
        if "ingest" in parts:
            self.ingest = self._make_ingest()
        self.watch = Watch(
            hub.store, beats, hub.room, config.alerts,
            holder=self._holder, now=now, lease_clock=lease.database_time,
            process="" if process is None else process.name,
            others=(lambda _session: ()) if process is None else process.others,
        )  # fmt: skip

    def _reach_broker(self) -> None:
        hub, config = self._hub, self._hub.config
        if config.broker.url:
            external = External(config, hub.pki, hub.store, hub.clock, hub.heartbeats)
            self._external, self._address = external, external.address
            self._gatekeeper = external.gatekeeper
        else:
            self._address = self._managed()

    def _led(self, role: str, make: Callable[[int], Started]) -> Started | Leader[Started]:
        """What runs here for as long as this process does, or while it leads."""
        if self._process is None:
            return make(lease.NONE)
        hub = self._hub
        return Leader(hub.store, role, self._holder, make, heartbeats=hub.heartbeats)

    def _make_publishing(self, epoch: int) -> Publishing:
        hub = self._hub
        publisher = Publisher(
            hub.store,
            self._address,
            hub.catalogue,
            self._bundles,
            save=self._save,
            now=hub.clock,
            heartbeats=hub.heartbeats,
            fenced=lambda session: bool(epoch) and lease.fenced(session, "publisher", epoch),
            hears_wants=self._process is not None,
        )
        gatekeeper = None if self._gatekeeper is None else self._gatekeeper()
        return Publishing(hub.heartbeats, publisher, gatekeeper)

    def _make_engine(self) -> Engine:
        hub, config = self._hub, self._hub.config
        ingest_is_here = self._process is None
        return Engine(
            hub.store,
            hub.catalogue,
            hub.directives,
            self._bundles,
            DirectiveTerms(
                window_seconds=config.directives.window_seconds,
                valid_seconds=config.directives.valid_seconds,
                chunks_url=f"{config.url}/api/v1/chunks",
                public_chunks_url=config.storage.public_url.rstrip("/"),
                token=hub.chunk_token,
                keep_crash_input=config.directives.keep_crash_input,
                drift=config.drift.of,
                trace=self._traces.parent if config.traces.endpoint else lambda _rollout: "",
                contact=hub.contact,
            ),
            holder=self._holder,
            on_published=self._decided,
            alerts=config.alerts,
            telemetry=config.telemetry,
            loops=config.loops,
            expiries=hub.catalogue.expiries,
            now=hub.clock,
            lease_clock=lease.database_time,
            heartbeats=hub.heartbeats,
            listening_seconds=(
                self._listening_seconds
                if ingest_is_here
                else lambda: processes.listening_seconds(hub.store)
            ),
        )

    def _make_outgoing(self, _epoch: int) -> Group:
        """What speaks to others than devices: whom alerts go to, pipelines, a traces' collector."""
        hub, config, beats = self._hub, self._hub.config, self._hub.heartbeats
        assert self.engine is not None
        parts: dict[str, Startable] = {
            "notifier": WebhookSender(
                hub.store,
                config.alerts,
                config.data,
                hub.sealing,
                now=hub.clock,
                heartbeats=beats,
                hub=config.url,
            ),
            "trainings": Trainings(
                hub.store,
                config.loops,
                config.data,
                hub_url=config.url,
                now=hub.clock,
                heartbeats=beats,
                changed=self.wake,
            ),
        }
        if config.traces.endpoint:
            parts["traces"] = Tracer(
                hub.store, self._traces, config.traces.endpoint, config.url,
                now=hub.clock, heartbeats=beats,
            )  # fmt: skip
        return Group(beats, parts)

    def _make_ingest(self) -> Ingest:
        hub = self._hub
        assert self._address is not None
        return Ingest(
            hub.store,
            self._address,
            on_want=self._wanted,
            on_change=self._heard,
            on_shown=Showing(hub.catalogue, self._decided, hub.clock),
            on_renewal=Renewals(hub.store, hub.pki, self._decided, hub.clock),
            now=hub.clock,
            heartbeats=hub.heartbeats,
            number=0 if self._process is None else self._process.number,
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start in order, end in reverse; raises BrokerError when the broker can't run, or is one
        of the site's own that does not keep devices apart.
        """
        if self._external is not None:
            self._external.examine()
        if self._process is not None and self.ingest is not None:
            self._process.listening_seconds = self.ingest.listening_seconds
        with ExitStack() as stack:
            if self._broker_lock is not None:
                stack.callback(self._broker_lock.close)
            parts = (
                self._process,
                self.broker,
                self._wakes,
                self._publishing,
                self.ingest,
                self.engine,
                self._outgoing,
                self.watch,
            )
            for part in parts:
                if part is not None:
                    part.start()
                    stack.callback(part.stop)
            self._hub.on_change(self.wake)
            self._hub.add_health("process", self._process_health)
            if self._address is not None:
                self._hub.add_health("broker", self._broker_health)
            if self.ingest is not None:
                self._hub.add_health("ingest", self.ingest.health)
            yield

    def _listening_seconds(self) -> float:
        return 0.0 if self.ingest is None else self.ingest.listening_seconds()

    def at_each_check(self, chore: Callable[[], None]) -> None:
        """Have something looked after together with certificates, now and then."""
        if self._process is not None:
            self._process.chores.append(chore)
        elif (publishing := self._publisher_here()) and publishing.gatekeeper is not None:
            publishing.gatekeeper.chores.append(chore)

    def _publisher_here(self) -> Publishing | None:
        held = self._publishing
        return held.led if isinstance(held, Leader) else held

    # Who wakes whom: here at once, in other processes soon.

    def wake(self) -> None:
        """Something was changed by an operator or a release. Never blocks."""
        self._changed()
        self._announce("changed")

    def _changed(self) -> None:
        if self.engine is not None:
            self.engine.changed()
        if (publishing := self._publisher_here()) is not None:
            publishing.wake()

    def _heard(self) -> None:
        self._look()
        self._announce("heard")

    def _look(self) -> None:
        if self.engine is not None:
            self.engine.wake()

    def _decided(self) -> None:
        self._publish()
        self._announce("decided")

    def _publish(self) -> None:
        if (publishing := self._publisher_here()) is not None:
            publishing.publisher.wake()

    def _wanted(self, device: str, chunks: tuple[str, ...], last_resort: bool) -> None:  # noqa: FBT001 - as it stands in the message
        """Where there are several processes the publisher hears of it from the broker."""
        if self._process is None and (publishing := self._publisher_here()) is not None:
            publishing.publisher.want(device, chunks, last_resort)

    def _announce(self, kind: Kind) -> None:
        if self._wakes is not None:
            self._wakes.send(kind)

    def _managed(self) -> BrokerAddress:
        hub, config = self._hub, self._hub.config
        files = BrokerFiles(config.broker_directory, hub.pki, hub.store)
        names = tuple(dict.fromkeys((*config.names, config.broker_public[0])))
        files.prepare(names, hub.clock())
        wanted, line = managed_config(config), TakeoverLog(hub.store, hub.clock)
        self._broker_lock = take_lock(config.broker_directory)
        if self._broker_lock is None:
            self.broker = SeparateBroker(wanted, line=line, heartbeats=hub.heartbeats)
        else:
            self.broker = Broker(wanted, line=line, heartbeats=hub.heartbeats)
        broker = self.broker
        self._gatekeeper = lambda: Gatekeeper(
            files,
            broker.address,
            reload=broker.reload,
            now=hub.clock,
            heartbeats=hub.heartbeats,
        )
        return broker.address

    def _save(self) -> None:
        if self.broker is not None:
            self.broker.save()

    def _process_health(self) -> dict[str, Any]:
        """Which parts of the hub this process has, and its terms where it leads."""
        leases: dict[str, int] = {}
        if self.engine is not None:
            leases["engine"] = self.engine.epoch
        if isinstance(self._publishing, Leader):
            leases["publisher"] = self._publishing.epoch
        if isinstance(self._outgoing, Leader):
            leases["outgoing"] = self._outgoing.epoch
        return {"ok": True, "roles": [part for part in PARTS if part in self._parts],
                "leases": leases}  # fmt: skip

    def _broker_health(self) -> dict[str, Any]:
        broker, publishing, ingest = self.broker, self._publisher_here(), self.ingest
        separate = broker if isinstance(broker, SeparateBroker) else None
        said = separate or self._external
        away = separate.detail if separate is not None else ""
        return {
            "ok": (publishing is None or publishing.publisher.connected)
            and (ingest is None or ingest.client.connected),
            "managed": broker is not None,
            "restarts": broker.restarts if broker is not None else 0,
            "separate": separate is not None,
            "warnings": said.warnings if said is not None else {},
            "detail": away or (ingest.client.last_error if ingest is not None else ""),
        }
