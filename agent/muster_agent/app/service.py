"""``muster-agent run``: real link, trust, processes and disk around the supervisor's decisions."""

import errno
import logging
import os
import queue
import random
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from muster_agent.app import facts, reporting
from muster_agent.app.agent_updating import own_ports
from muster_agent.app.diagnosing import Diagnosing, LatestWarnings
from muster_agent.app.doctor import examine
from muster_agent.app.launch import ProcessLauncher
from muster_agent.app.log_watching import LogLines, LogWatching
from muster_agent.app.notify import Notifier
from muster_agent.app.outages import shown_in
from muster_agent.app.ports import Inbox, Shutdown, SupervisorPorts, SupervisorSettings
from muster_agent.app.rings import rings_directory
from muster_agent.app.supervisor import Supervisor
from muster_agent.base import memory
from muster_agent.base.clock import Clock, local_time, stamp
from muster_agent.base.config import Config, load
from muster_agent.base.proxy import Proxies, chosen
from muster_agent.base.settings import hours, zone
from muster_agent.base.system_clock import SystemClock
from muster_agent.feeds.watch import Feeds
from muster_agent.fetch.http_source import HttpSource
from muster_agent.fetch.meter import Allowance
from muster_agent.identity import identity
from muster_agent.identity.contact import Contacts
from muster_agent.identity.proof import prover
from muster_agent.identity.renewal import Renewal
from muster_agent.isolation import kernel
from muster_agent.isolation.cage import Rung, available
from muster_agent.link.mqtt import MqttLink, MqttSettings
from muster_agent.observe.crash_inputs import CrashInputs
from muster_agent.observe.day_budget import DayBudget
from muster_agent.observe.energy import EnergyPrice, read_rapl
from muster_agent.observe.observing import Folds
from muster_agent.observe.outbox import Outbox, SampleBounds
from muster_agent.observe.sampling.releases import BundleLimits
from muster_agent.observe.sampling.sampler import Sampler, SamplerPorts
from muster_agent.observe.sampling.sealing import SampleKeys
from muster_agent.observe.telemetry import Telemetry
from muster_agent.selfupdate.launcher import SIDE_VARIABLE, launched
from muster_agent.selfupdate.trial import TrialWatch
from muster_agent.selfupdate.wanted import AgentInstalled, AgentPorts
from muster_agent.storage.content import Store
from muster_agent.storage.current import CurrentLinks
from muster_agent.storage.lock import Lock
from muster_agent.storage.state import StateDatabase, open_state
from muster_agent.trust.store import TrustStore
from muster_agent.trust.time import ClockReading, Instant
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.interlocks import DeviceConditions
from muster_agent.update.preflight import Hardware
from muster_protocol.signals.summary import Summary
from muster_protocol.wire import messages, topics
from muster_protocol.wire.contact import BrokerAddress
from muster_protocol.wire.errors import LimitError
from muster_protocol.wire.messages import Event

log = logging.getLogger(__name__)
INBOX_EVENTS_MAX = 4096
EVENTS_BETWEEN_TICKS = 64
DELIVER_SECONDS = 10.0
"""How long a link or worker waits for room in a full inbox before its event is dropped."""
WAIT_SECONDS_MAX = 0.5
"""The longest nap between two looks at signals and the watchdog."""
FAREWELL_SECONDS = 3.0
"""How long a stopping agent waits for the hub to acknowledge what it still holds."""
TRIM_SECONDS = 60.0
"""How often memory that is free is given back; it takes a millisecond."""
WINDOW_SECONDS = 300.0
"""Until a directive names another."""


class Mailbox:
    """The supervisor's bounded inbox. Threads put; a full one slows them down."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Inbox] = queue.Queue(INBOX_EVENTS_MAX)

    def put(self, event: Inbox) -> None:
        """Hand an event to the supervisor's thread; a full mailbox drops it after a while and says
        so."""
        try:
            self._queue.put(event, timeout=DELIVER_SECONDS)
        except queue.Full:
            log.critical("the inbox is full: dropped a %s", type(event).__name__)

    def get(self, timeout: float) -> Inbox | None:
        """The next event, or None when none came within ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None


class Service:
    """Everything ``run`` builds, in the order it is taken down in reverse."""

    def __init__(self, config: Config, stack: ExitStack, clock: Clock | None = None) -> None:
        """Raises MusterError or OSError in one clear line when the directory can't be served."""
        directory = config.directory
        clock = clock or SystemClock()
        now = clock.monotonic()
        rng = random.Random()  # noqa: S311 - jitter
        lock = Lock(directory)
        lock.acquire()
        stack.callback(lock.release)
        who = identity.load(directory / "identity")
        store = Store(
            directory / "store",
            cache_bytes=config.settings.limits.chunk_cache_bytes,
            free_bytes_min=config.settings.limits.disk_free_bytes_min,
        )
        _clean(store)
        links = CurrentLinks(directory / "current", store)
        state = open_state(directory, links.read())
        stack.callback(state.close)
        if state.trouble:
            log.error("%s: serving what is committed; nothing new is taken", state.trouble)
        keys = SampleKeys(directory / "samples")
        outbox = _outbox(config, clock, state, keys)
        energy = EnergyPrice(read_rapl, config.settings.energy.watts_per_core)
        trust = TrustStore(directory / "trust")
        allow = config.settings.runtimes.allow
        key: facts.KeyPlace = "hardware" if who.key.name == identity.KEY_URI else "file"
        runtimes = facts.usable_runtimes(allow)
        if available() is Rung.NONE:
            log.warning("this kernel isolates no model's process: see muster-agent doctor")
        install = BundleInstall(
            store,
            tuple(runtimes),
            Hardware(facts.memory_bytes(), runtimes, facts.cpu(), facts.providers(allow)),
            facts.memory_free_bytes,
        )

        def trusted_now() -> Instant:
            return trust.now(ClockReading(clock.wall(), clock.quality()))

        sampler = Sampler(
            SamplerPorts(
                state=state,
                outbox=outbox,
                keys=keys,
                releases=BundleLimits(store),
                clock=clock,
                trusted_now=trusted_now,
                day=_days(config, clock),
                rng=rng,
                allowed=config.settings.sampling.allow,
            ),
            now,
        )
        folds = Folds(
            store,
            report=outbox.put_event,
            window_seconds=lambda: telemetry.window_seconds,
            monitors=state,
            offer=sampler.offer,
        )
        telemetry = Telemetry(
            rings_directory(config),
            state=state,
            folds=folds,
            put=lambda summary: _put_summary(outbox, clock, summary),
            stamp=lambda: stamp(clock),
            rng=rng,
            window_seconds=WINDOW_SECONDS,
            now=now,
            joules_per_cpu_second=energy.now,
        )
        stack.callback(telemetry.close)
        self.mailbox = Mailbox()
        crash_inputs = CrashInputs(directory / "crashes")
        launcher = ProcessLauncher(
            config,
            install,
            telemetry,
            self.mailbox.put,
            boot=state.count("boots"),
            now=clock.monotonic,
            last_input=crash_inputs.begin,
        )
        stack.callback(launcher.close)

        http = HttpSource(who.ca, self.mailbox.put, trusted_now, proxies=_proxies(config))
        http.start()
        stack.callback(http.stop)

        contacts = _contacts(config)
        link = _link(config, who, self.mailbox, trusted_now, contacts, rng)
        show_offline = shown_in(directory)
        show_offline(None)  # Whatever an agent before this one said.
        for fault in telemetry.recover(now):
            log.warning("%s", fault)
        self.clock, self.outbox = clock, outbox
        self._trial = TrialWatch(
            directory,
            os.environ.get(SIDE_VARIABLE, ""),
            lambda news: outbox.put_event(reporting.note("", news, stamp(clock))),
        )
        self.stop_seconds = config.settings.timers.stop_seconds
        self.supervisor = Supervisor(
            settings(config, who.expires),
            SupervisorPorts(
                clock=clock,
                link=link,
                http=http,
                state=state,
                install=install,
                links=links,
                trust=trust,
                launcher=launcher,
                telemetry=telemetry,
                outbox=outbox,
                facts=lambda: facts.read(directory, allow, energy.source, key),
                rng=rng,
                signs=folds.signs,
                rebaseline=folds.rebaseline,
                judge_drift=folds.judge_by,
                prove=prover(config.device, directory / "identity"),
                inputs=DeviceConditions(directory, config.interlocks),
                crash_inputs=crash_inputs,
                sampling=sampler,
                contact=contacts,
                log=_log_watching(config, clock, state, trusted_now, stack),
                diagnosis=_diagnosing(directory, clock, state, self.mailbox, stack),
                challenge=launcher.challenge,
                show_offline=show_offline,
                feeds=Feeds(
                    {name: feed.slot for name, feed in config.settings.feeds.items()},
                    directory,
                    lambda goal: store.bundle(goal.manifest),
                    self.mailbox.put,
                    restart_seconds=(
                        config.settings.timers.restart_seconds_min,
                        config.settings.timers.restart_seconds_max,
                    ),
                    rng=rng,
                    now=now,
                    run_dir=config.run_dir,
                    wall=clock.wall,
                    settings=config.settings.feeds,
                ),
                agent=_own(config, trust, self.mailbox.put),
                directory=directory,
            ),
            now,
        )
        self.supervisor.start(now)
        link.start()
        stack.callback(link.stop)

    def loop(self, finished: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Hand events and time to the supervisor until ``finished``; ``beat`` feeds a watchdog."""
        supervisor, monotonic = self.supervisor, self.clock.monotonic
        trim_at = monotonic() + TRIM_SECONDS
        while not finished():
            beat()
            now = monotonic()
            if now >= trim_at:
                trim_at = now + TRIM_SECONDS
                memory.give_back()
            wait = min(max(supervisor.deadline(now) - now, 0.0), WAIT_SECONDS_MAX)
            event = self.mailbox.get(wait)
            for _ in range(EVENTS_BETWEEN_TICKS):
                if event is None:
                    break
                supervisor.handle(event, monotonic())
                event = self.mailbox.get(0)
            else:
                if event is not None:
                    supervisor.handle(event, monotonic())
            supervisor.tick(monotonic())
            self._trial.look(
                monotonic(), connected=supervisor.connected, serving=supervisor.serving
            )

    def finish(self, beat: Callable[[], None]) -> None:
        """Stop the workers, fold the last rows, and let the hub acknowledge what it can."""
        supervisor, monotonic = self.supervisor, self.clock.monotonic
        supervisor.handle(Shutdown(), monotonic())
        end = monotonic() + self.stop_seconds + FAREWELL_SECONDS
        self.loop(lambda: supervisor.drained or monotonic() >= end, beat)
        end = monotonic() + FAREWELL_SECONDS
        self.loop(
            lambda: not supervisor.connected or self.outbox.stats().rows == 0 or monotonic() >= end,
            beat,
        )


def run(directory: Path) -> int:
    """Serve ``directory`` until SIGTERM or SIGINT; returns the exit code. When the hub asks for a
    restart, this process becomes a new agent: whatever watches over it need not start it again.
    """
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    notifier = Notifier()

    def beat() -> None:
        if notifier.watchdog_seconds is not None:
            notifier.notify("WATCHDOG=1")

    kernel.hide()  # A model's process has the same user.
    with ExitStack() as stack:
        config = load(directory)
        service = Service(config, stack)
        if config.settings.metrics.port:
            from muster_agent.app import metrics  # noqa: PLC0415 - a server, for those who want one

            stack.enter_context(metrics.serving(config))
        notifier.notify("READY=1", "STATUS=serving")
        log.info("serving %s", directory)
        service.loop(lambda: stopping or service.supervisor.wants_restart, beat)
        if stopping:
            notifier.notify("STOPPING=1")
        log.info("stopping" if stopping else "stopping, to start anew")
        service.finish(beat)
    if not stopping:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell
    return 0


def settings(config: Config, certificate_expires: int) -> SupervisorSettings:
    """The supervisor's part of the agent's settings."""
    return SupervisorSettings(
        device=config.device,
        report_seconds=config.settings.timers.report_seconds,
        metadata_wait_seconds=config.settings.timers.metadata_wait_seconds,
        chunk_silence_seconds=config.settings.timers.chunk_silence_seconds,
        fetch_window=config.settings.limits.fetch_window,
        restart_seconds=(
            config.settings.timers.restart_seconds_min,
            config.settings.timers.restart_seconds_max,
        ),
        retry_seconds=(
            config.settings.timers.retry_seconds_min,
            config.settings.timers.retry_seconds_max,
        ),
        stop_seconds=config.settings.timers.stop_seconds,
        certificate_expires=certificate_expires,
        time_zone=zone(config.settings.time_zone),
        allowance=Allowance(
            bytes_per_day=config.settings.limits.fetch_bytes_per_day,
            bytes_per_second=config.settings.limits.fetch_bytes_per_second,
            bytes_per_bundle=config.settings.limits.fetch_bytes_per_bundle,
            hours=hours(config.settings.limits.fetch_hours),
        ),
    )


def _own(
    config: Config, trust: TrustStore, done: Callable[[AgentInstalled], None]
) -> AgentPorts | None:
    """None where no launcher would switch to another release of the agent."""
    if not launched():
        return None
    free_bytes_min = config.settings.limits.disk_free_bytes_min
    return own_ports(config.directory, facts.agent_version(), trust, done, free_bytes_min)


def _clean(store: Store) -> None:
    """What an interrupted write left behind is in nobody's way on a disk that only reads."""
    try:
        store.clean()
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        log.warning("%s: %s", error.filename, error.strerror)


def _days(config: Config, clock: Clock) -> Callable[[], int]:
    """Today, by number, where the device is."""
    return lambda: local_time(clock, zone(config.settings.time_zone)).toordinal()


def _outbox(config: Config, clock: Clock, state: StateDatabase, keys: SampleKeys) -> Outbox:
    day, own = _days(config, clock), config.settings.sampling
    samples = DayBudget(own.bytes_per_day, day, state.sampled, samples_share=1.0)
    return Outbox(
        state.connection,
        budget=DayBudget(config.settings.limits.telemetry_bytes_per_day, day, state.sent),
        samples=SampleBounds(own.ring_bytes, samples, keys.open),
    )


def _diagnosing(
    directory: Path, clock: Clock, state: StateDatabase, mailbox: Mailbox, stack: ExitStack
) -> Diagnosing:
    warnings = LatestWarnings()
    logging.getLogger().addHandler(warnings)
    stack.callback(logging.getLogger().removeHandler, warnings)
    return Diagnosing(state, lambda: examine(directory, clock), mailbox.put, warnings.lines)


def _log_watching(
    config: Config,
    clock: Clock,
    state: StateDatabase,
    trusted_now: Callable[[], Instant],
    stack: ExitStack,
) -> LogWatching:
    lines = LogLines(lambda: stamp(clock))
    logging.getLogger().addHandler(lines)
    stack.callback(logging.getLogger().removeHandler, lines)
    most = config.settings.limits.telemetry_bytes_per_day
    budget = DayBudget(most, _days(config, clock), state.sent)
    # As samples do, it leaves half of the day's bytes to telemetry.
    return LogWatching(state, lines, trusted_now, lambda: budget.left("sample") > 0)


def _proxies(config: Config) -> Proxies:
    return chosen(config.settings.proxy, config.directory, os.environ)


def _contacts(config: Config) -> Contacts:
    broker = config.settings.broker
    return Contacts(
        config.directory / "identity",
        hub=config.settings.hub.url,
        broker=BrokerAddress(broker.host, broker.port),
    )


def _link(
    config: Config,
    who: identity.Identity,
    mailbox: Mailbox,
    trusted_now: Callable[[], Instant],
    contacts: Contacts,
    rng: random.Random,
) -> MqttLink:
    proxies = _proxies(config)
    broker = config.settings.broker
    return MqttLink(
        MqttSettings(
            host=broker.host,
            port=broker.port,
            device=config.device,
            key=who.key,
            cert=who.cert,
            ca=who.ca,
            keepalive_seconds=broker.keepalive_seconds,
            proxies=proxies,
        ),
        will=_will(config.device),
        deliver=mailbox.put,
        now=trusted_now,
        renewal=Renewal(config.directory / "identity", contacts, trusted_now, rng, proxies),
        brokers=contacts.brokers,
    )


def _will(device: str) -> tuple[str, bytes]:
    offline = messages.encode(messages.Presence(online=False))
    return topics.up(device, "presence"), offline


def _put_summary(outbox: Outbox, clock: Clock, summary: Summary) -> None:
    """A window too large for a message can't be sent whole; the hub is told of the gap."""
    try:
        outbox.put_summary(summary)
    except LimitError as error:
        log.exception("a window is lost")
        outbox.put_event(
            Event(
                kind="note",
                at=stamp(clock),
                model=summary.model,
                version=summary.version,
                manifest=summary.manifest,
                detail=f"a window is lost: {error}",
            )
        )
