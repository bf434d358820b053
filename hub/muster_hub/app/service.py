"""``muster-hub serve``: broker, publisher, ingest, engine and API in one process."""

import ctypes
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from muster_hub.alerts.sender import WebhookSender
from muster_hub.api.app import server_config
from muster_hub.api.hub import Hub
from muster_hub.api.listening import listen
from muster_hub.app.watch import Watch
from muster_hub.console.site import create_site
from muster_hub.errors import Conflict, HubError
from muster_hub.loop.trainings import Trainings
from muster_hub.metrics.tracer import Tracer
from muster_hub.mqtt.access import BrokerFiles, Gatekeeper
from muster_hub.mqtt.broker import Broker, memory_bytes_max, own_user
from muster_hub.mqtt.broker_config import BrokerConfig
from muster_hub.mqtt.client import BrokerAddress
from muster_hub.mqtt.external import External
from muster_hub.mqtt.ingest import Ingest
from muster_hub.mqtt.publisher import Publisher
from muster_hub.mqtt.renewals import Renewals
from muster_hub.mqtt.showing import Showing
from muster_hub.mqtt.takeover_log import TakeoverLog
from muster_hub.reconcile import lease
from muster_hub.reconcile.engine import Engine
from muster_hub.reconcile.terms import DirectiveTerms
from muster_hub.registry.published import Bundles
from muster_hub.rollouts.tracing import Traces
from muster_hub.settings.config import HubConfig
from muster_protocol import json_log
from muster_protocol.wire.addresses import joined

SHUTDOWN_SECONDS = 2
SWITCH_SECONDS = 0.001
"""Between threads that compute. Each row that is read lets go of the interpreter: at Python's 5 ms
a list of a hundred waits half a second for an engine and an ingest that are busy."""
PORT_WAIT_SECONDS = 3.0
"""A hub that was just killed needs a moment before its port is free."""


class FleetServices:
    """Everything of the hub that speaks with devices, wired around an opened ``Hub``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        config, now = hub.config, hub.clock
        self.broker: Broker | None = None
        self._gatekeeper: Gatekeeper | None = None
        self._external = (
            External(config, hub.pki, hub.store, now, hub.heartbeats) if config.broker.url else None
        )
        if self._external is None:
            address = self._managed()
        else:
            address, self._gatekeeper = self._external.address, self._external.gatekeeper
        bundles, beats = Bundles(hub.store, hub.blobs), hub.heartbeats
        holder = f"{socket.gethostname()}:{config.data.resolve()}"
        traces = Traces.of(hub.capability_key, config.traces.share)
        self.publisher = Publisher(
            hub.store, address, hub.catalogue, bundles, save=self._save, now=now, heartbeats=beats
        )
        self.engine = Engine(
            hub.store,
            hub.catalogue,
            hub.directives,
            bundles,
            DirectiveTerms(
                window_seconds=config.directives.window_seconds,
                valid_seconds=config.directives.valid_seconds,
                chunks_url=f"{config.url}/api/v1/chunks",
                token=hub.chunk_token,
                keep_crash_input=config.directives.keep_crash_input,
                drift=config.drift.of,
                trace=traces.parent if config.traces.endpoint else lambda _rollout: "",
                contact=hub.contact,
            ),
            holder=holder,
            on_published=self.publisher.wake,
            alerts=config.alerts,
            telemetry=config.telemetry,
            loops=config.loops,
            expiries=hub.catalogue.expiries,
            now=now,
            lease_clock=lease.database_time,
            heartbeats=beats,
            listening_seconds=self._listening_seconds,
        )
        self.sender = WebhookSender(
            hub.store,
            config.alerts,
            config.data,
            hub.sealing,
            now=now,
            heartbeats=beats,
            hub=config.url,
        )
        self.tracer = (
            Tracer(hub.store, traces, config.traces.endpoint, config.url, now=now, heartbeats=beats)
            if config.traces.endpoint
            else None
        )
        self.trainings = Trainings(
            hub.store,
            config.loops,
            config.data,
            hub_url=config.url,
            now=now,
            heartbeats=beats,
            changed=self.engine.changed,
        )
        self.watch = Watch(
            hub.store, beats, hub.room, config.alerts,
            holder=holder, now=now, lease_clock=lease.database_time,
        )  # fmt: skip
        self.ingest = Ingest(
            hub.store,
            address,
            on_want=self.publisher.want,
            on_change=self.engine.wake,
            on_shown=Showing(hub.catalogue, self.publisher.wake, now),
            on_renewal=Renewals(hub.store, hub.pki, self.publisher.wake, now),
            now=now,
            heartbeats=beats,
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start in order, end in reverse; raises BrokerError when the broker can't run, or is one
        of the site's own that does not keep devices apart.
        """
        if self._external is not None:
            self._external.examine()
        with ExitStack() as stack:
            parts = (
                self.broker,
                self._gatekeeper,
                self.publisher,
                self.ingest,
                self.engine,
                self.sender,
                self.trainings,
                self.watch,
                self.tracer,
            )
            for part in parts:
                if part is not None:
                    part.start()
                    stack.callback(part.stop)
            self._hub.on_change(self.wake)
            self._hub.add_health("broker", self._broker_health)
            self._hub.add_health("ingest", self.ingest.health)
            yield

    def _listening_seconds(self) -> float:
        return self.ingest.listening_seconds()

    def at_each_check(self, chore: Callable[[], None]) -> None:
        """Have something looked after together with the broker's certificates."""
        if self._gatekeeper is not None:
            self._gatekeeper.chores.append(chore)

    def wake(self) -> None:
        """Something was changed by an operator or a release. Never blocks."""
        self.engine.changed()
        self.publisher.wake()
        if self._gatekeeper is not None:
            self._gatekeeper.wake()

    def _managed(self) -> BrokerAddress:
        hub, config = self._hub, self._hub.config
        files = BrokerFiles(config.broker_directory, hub.pki, hub.store)
        names = tuple(dict.fromkeys((*config.names, config.broker_public[0])))
        files.prepare(names, hub.clock())
        self.broker = Broker(
            BrokerConfig(
                directory=config.broker_directory,
                host=config.broker.host,
                port=config.broker.port,
                ca=files.ca,
                certificate=files.certificate,
                key=files.key,
                crl=files.crl,
                run_as=own_user(),
                memory_bytes_max=memory_bytes_max(),
            ),
            line=TakeoverLog(hub.store, hub.clock),
            heartbeats=hub.heartbeats,
        )
        self._gatekeeper = Gatekeeper(
            files,
            self.broker.address,
            reload=self.broker.reload,
            now=hub.clock,
            heartbeats=hub.heartbeats,
        )
        return self.broker.address

    def _save(self) -> None:
        if self.broker is not None:
            self.broker.save()

    def _broker_health(self) -> dict[str, Any]:
        broker = self.broker
        return {
            "ok": self.publisher.connected and self.ingest.client.connected,
            "managed": broker is not None,
            "restarts": broker.restarts if broker is not None else 0,
            "warnings": self._external.warnings if self._external is not None else {},
            "detail": self.ingest.client.last_error,
        }


class _Server(uvicorn.Server):
    """uvicorn that tells event streams to end when a signal comes, so that none holds it up."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def _hide_memory() -> None:
    """Keys are in it, and the processes that check models have the hub's user."""
    set_dumpable = 4
    with suppress(OSError, AttributeError):  # Not on Linux.
        ctypes.CDLL(None).prctl(set_dumpable, 0, 0, 0, 0)


def serve(
    config: HubConfig, *, announce: Callable[[str], None] = print, log_json: bool = False
) -> int:
    """Run the hub until SIGTERM or SIGINT; 0 when it ended as asked.

    Raises HubError or BrokerError, having changed nothing, when it can't run: another hub on the
    same directory, a port that is taken, a broker that is missing.
    """
    json_log.configure(
        logging.WARNING, "%(asctime)s %(levelname)s %(name)s: %(message)s", as_json=log_json
    )
    _hide_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    signals = _Signals()
    with _only_one(config.data), signals.handled(), _listen(config) as listener:
        hub = Hub.open(config, clock=time.time)
        started = False
        try:
            fleet = FleetServices(hub)
            with fleet.running():
                hub.start()
                started = True
                certificate, key = hub.server_certificate()
                server = _Server(
                    server_config(
                        create_site(hub),
                        ssl_certfile=certificate,
                        ssl_keyfile=key,
                        log_level="warning",
                        access_log=False,
                        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
                    ),
                    hub.stopping.set,
                )
                freeze_started()
                fleet.at_each_check(lambda: _renew_certificate(hub, server.config))
                host, port = config.broker_public
                broker = config.broker.url or f"mqtts://{joined(host, port)}"
                announce(f"hub ready: {config.url} broker {broker}")
                signals.serving = True
                server.run(sockets=[listener])
        finally:
            if started:
                hub.stop()
            else:
                hub.store.close()
    return 0


def freeze_started() -> None:
    """Keep what stays until the end out of garbage collections.

    A full one looks through 200,000 objects of imported modules and routes, 0.1 s and more in which
    no request is answered.
    """
    gc.collect()
    gc.freeze()


def _renew_certificate(hub: Hub, serving: uvicorn.Config) -> None:
    """A hub may run for longer than its certificate is good: new connections see a new one."""
    if serving.loaded and serving.ssl is not None and hub.server_certificate_ending():
        serving.ssl.load_cert_chain(*hub.server_certificate())


@contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the directory's lock; the kernel lets go of it however the process ends."""
    path = data / "hub.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"a hub is already running on {data} (process {owner}): stop it first"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class _Signals:
    """SIGTERM and SIGINT end the start-up at once; later ones are uvicorn's, which repeats them
    when it has ended: by then everything is being stopped already."""

    def __init__(self) -> None:
        self.serving = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self.serving:
            self.serving = True
            raise SystemExit(0)


@contextmanager
def _listen(config: HubConfig) -> Iterator[socket.socket]:
    host, port = config.http.host, config.http.port
    until = time.monotonic() + PORT_WAIT_SECONDS
    while True:
        try:
            listener = listen(host, port)
        except OSError as error:
            if time.monotonic() < until:
                time.sleep(0.1)  # the port's last owner may still be ending
                continue
            raise HubError(
                f"the API can't listen on {joined(host, port)}: {error.strerror}; "
                "stop what uses the port or change [http] port in hub.toml"
            ) from None
        with listener:
            yield listener
        return
