"""``muster-hub serve``: broker, publisher, ingest, engine and API in one process, or in several."""

import ctypes
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

import uvicorn

from muster_hub.api.app import create_status, server_config
from muster_hub.api.hub import Hub
from muster_hub.api.listening import listen
from muster_hub.app.garbage import Garbage
from muster_hub.app.processes import Registration
from muster_hub.app.services import FleetServices
from muster_hub.console.site import create_site
from muster_hub.errors import Conflict, HubError
from muster_hub.settings.config import HubConfig
from muster_hub.settings.parts import EVERY, Part, words
from muster_protocol import json_log
from muster_protocol.wire.addresses import joined

SHUTDOWN_SECONDS = 2
SWITCH_SECONDS = 0.001
"""Between threads that compute. Each row that is read lets go of the interpreter: at Python's 5 ms
a list of a hundred waits half a second for an engine and an ingest that are busy."""
LOOK_SECONDS = 0.5
"""A signal is seen after this at most by a process that listens on no port."""
PORT_WAIT_SECONDS = 3.0
"""A hub that was just killed needs a moment before its port is free."""


class _Server(uvicorn.Server):
    """uvicorn that hears of signals from this module, from before it runs until it has ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none over: one that came just before uvicorn's own handlers would be lost."""
        yield


def _hide_memory() -> None:
    """Keys are in it, and the processes that check models have the hub's user."""
    set_dumpable = 4
    with suppress(OSError, AttributeError):  # Not on Linux.
        ctypes.CDLL(None).prctl(set_dumpable, 0, 0, 0, 0)


def serve(
    config: HubConfig,
    *,
    parts: frozenset[Part] = EVERY,
    port: int | None = None,
    announce: Callable[[str], None] = print,
    log_json: bool = False,
) -> int:
    """Run the hub, or some ``parts`` of it, until SIGTERM or SIGINT; 0 when it ended as asked.

    ``port`` is listened on instead of the settings' one; without the API only if it is given.
    Raises HubError or BrokerError, having changed nothing, when it can't run: another hub on the
    same directory or database, a port that is taken, a broker that is missing.
    """
    alone = parts == EVERY
    if not alone:
        _must_share(config)
    json_log.configure(
        logging.WARNING, "%(asctime)s %(levelname)s %(name)s: %(message)s", as_json=log_json
    )
    _hide_memory()
    sys.setswitchinterval(SWITCH_SECONDS)
    listens = "api" in parts or port is not None
    signals, garbage = _Signals(), Garbage()
    with (
        _only_one(config.data, shared=not alone),
        signals.handled(),
        _listen(config, port) if listens else nullcontext() as listener,
    ):
        hub = Hub.open(config, clock=time.time)
        started = False
        try:
            process = _entered(hub, parts)
            fleet = FleetServices(hub, parts, None if alone else process)
            with _registered(process) if alone else nullcontext(), fleet.running():
                hub.start(checks="api" in parts)
                started = True
                garbage.started()
                fleet.at_each_check(garbage.look)
                said = _ready(config, parts)
                if listener is None:
                    signals.wait(lambda: announce(said))
                else:
                    _answer(hub, parts, fleet, listener, signals, lambda: announce(said))
        finally:
            if started:
                hub.stop()
            else:
                hub.store.close()
    return 0


def _answer(
    hub: Hub,
    parts: frozenset[Part],
    fleet: FleetServices,
    listener: socket.socket,
    signals: "_Signals",
    ready: Callable[[], None],
) -> None:
    """Serve the API and the console, or what a process without them answers, until a signal."""
    if parts != EVERY:
        hub.process = f"{socket.gethostname()}-{listener.getsockname()[1]}"
    certificate, key = hub.server_certificate()
    server = _Server(
        server_config(
            create_site(hub) if "api" in parts else create_status(hub),
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ),
    )
    fleet.at_each_check(lambda: _renew_certificate(hub, server.config))

    def end(number: int, frame: FrameType | None) -> None:
        hub.stopping.set()  # Event streams end, so that none holds the server up.
        server.handle_exit(number, frame)

    signals.then(end)
    ready()
    server.run(sockets=[listener])


def _ready(config: HubConfig, parts: frozenset[Part]) -> str:
    host, port = config.broker_public
    broker = config.broker.url or f"mqtts://{joined(host, port)}"
    doing = "" if parts == EVERY else f" role {words(parts)}"
    return f"hub ready: {config.url} broker {broker}{doing}"


def _must_share(config: HubConfig) -> None:
    """Raise HubError for a hub whose parts can't be several processes."""
    if not config.database.startswith("postgresql"):
        raise HubError(
            "--role: SQLite has one writer. For several processes set database to postgresql://… "
            "in hub.toml, or run the whole hub in one: muster-hub serve"
        )
    if not config.broker.url:
        raise HubError(
            "--role: the hub's own Mosquitto ends with the process that runs it. For several "
            "processes set [broker] url in hub.toml to a broker of yours"
        )


def _entered(hub: Hub, parts: frozenset[Part]) -> Registration | None:
    """This process among those of its database; None on SQLite, which lies in the directory that
    one process holds. Raises Conflict when they can't be one hub.
    """
    if hub.store.engine.dialect.name == "sqlite":
        return None
    process = Registration(
        hub.store, hub.config.data, parts,
        lost=lambda: os.kill(os.getpid(), signal.SIGTERM), heartbeats=hub.heartbeats,
    )  # fmt: skip
    process.enter()
    return process


@contextmanager
def _registered(process: Registration | None) -> Iterator[None]:
    if process is None:
        yield
        return
    process.start()
    try:
        yield
    finally:
        process.stop()


def _renew_certificate(hub: Hub, serving: uvicorn.Config) -> None:
    """A hub may run for longer than its certificate is good: new connections see a new one."""
    if serving.loaded and serving.ssl is not None and hub.server_certificate_ending():
        serving.ssl.load_cert_chain(*hub.server_certificate())


@contextmanager
def _only_one(data: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the directory's lock, or a share of it; the kernel lets go of it however the process
    ends.
    """
    path = data / "hub.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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
    """SIGTERM and SIGINT, handled here from the start to the end, so that there is no moment in
    which one is lost. They end the start-up at once, then what serves; what ends already goes on.
    """

    def __init__(self) -> None:
        self._serving = False
        self._ended = threading.Event()
        self._end: Callable[[int, FrameType | None], None] = lambda _number, _frame: None

    def wait(self, ready: Callable[[], None]) -> None:
        """Call ``ready``, then wait until one comes."""
        self._serving = True
        ready()
        while not self._ended.wait(LOOK_SECONDS):
            pass

    def then(self, end: Callable[[int, FrameType | None], None]) -> None:
        """Call ``end`` for each that comes from now on."""
        self._end, self._serving = end, True

    @contextmanager
    def handled(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._ended.set()
        if self._serving:
            self._end(number, frame)
        else:
            self._serving = True
            raise SystemExit(0)


@contextmanager
def _listen(config: HubConfig, other_port: int | None = None) -> Iterator[socket.socket]:
    host, port = config.http.host, other_port or config.http.port
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
