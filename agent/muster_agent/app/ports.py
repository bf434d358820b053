"""What the supervisor acts on and hears from; a simulator brings its own of each."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Protocol

from msgspec import UnsetType

from muster_agent.app.goals import TrustSource
from muster_agent.app.outages import Offline
from muster_agent.base.clock import Clock
from muster_agent.challenger.challenger import Launch, no_launch
from muster_agent.feeds.process import FeedEvent
from muster_agent.feeds.watch import FeedWatch, NoFeeds
from muster_agent.fetch.http_source import HttpAnswer
from muster_agent.fetch.meter import Allowance
from muster_agent.link.link import Connected, Disconnected, Link, Message, Subscribed
from muster_agent.observe.signs import SlotSigns
from muster_agent.observe.telemetry import Telemetry
from muster_agent.selfupdate.wanted import AgentInstalled, AgentPorts
from muster_agent.storage.current import CurrentLinks
from muster_agent.storage.state import StateDatabase
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.delivery import HttpGetter
from muster_agent.update.permit import NoConditions, SwapConditions
from muster_agent.update.workers import Launcher
from muster_agent.worker.events import WorkerEvent
from muster_protocol.wire import limits
from muster_protocol.wire.contact import Approved, Contact
from muster_protocol.wire.directive import Directive, Drift, Goal, TimedRequest
from muster_protocol.wire.messages import Ack, Batch, Event, Facts, Report, Stamp, Stream


@dataclass(frozen=True)
class Shutdown:
    """Finish: stop the workers, fold everything, and say goodbye."""


@dataclass(frozen=True)
class Diagnosed:
    """A look at everything here has ended."""

    request: int
    lines: tuple[str, ...]


Inbox = (
    Connected
    | Disconnected
    | Message
    | Subscribed
    | HttpAnswer
    | WorkerEvent
    | FeedEvent
    | Diagnosed
    | AgentInstalled
    | Shutdown
)


class CrashInputs(Protocol):
    """``crash_inputs.CrashInputs``, as far as the supervisor uses it."""

    def allow(self, allowed: bool) -> None:  # noqa: FBT001 - it is all it says
        """The directive's policy; without it nothing is kept."""
        ...

    def end(self, worker_id: str, *, crashed: bool) -> str:
        """A worker ended: keep or drop its last input; a note for the hub, empty when there is
        none."""
        ...


class NoCrashInputs:
    """Keeps none."""

    def allow(self, allowed: bool) -> None:  # noqa: FBT001 - it is all it says
        pass

    def end(self, worker_id: str, *, crashed: bool) -> str:  # noqa: ARG002 - the port's names
        return ""


class Sampling(Protocol):
    """``sampler.Sampler``, as far as the supervisor uses it."""

    def obey(self, directive: Directive, now: float) -> None:
        """Begin what a directive asks for and end what it doesn't any more."""
        ...

    def tick(self, now: float) -> None:
        """End what has expired."""
        ...

    def deadline(self) -> float:
        """When ``tick`` is next worth calling."""
        ...

    def says(self, slot: str) -> str:
        """What becomes of a slot's policy, for the report; empty: it has none."""
        ...


class NoSampling:
    """Takes nothing."""

    def obey(self, directive: Directive, now: float) -> None:
        pass

    def tick(self, now: float) -> None:
        pass

    def deadline(self) -> float:
        return float("inf")

    def says(self, slot: str) -> str:  # noqa: ARG002 - the port's names
        return ""


class Diagnosis(Protocol):
    """``diagnosing.Diagnosing``, as far as the supervisor uses it."""

    def obey(self, asked: int | UnsetType) -> None:
        """Begin to look when a directive asks for more looks than there have been."""
        ...

    def events(self, done: Diagnosed, at: Stamp) -> list[Event]:
        """What a look found, when nobody has been told yet; joins a transaction."""
        ...


class NoDiagnosis:
    """Never looks."""

    def obey(self, asked: int | UnsetType) -> None:
        pass

    def events(self, done: Diagnosed, at: Stamp) -> list[Event]:
        del done, at
        return []


class LogWatch(Protocol):
    """``log_watching.LogWatching``, as far as the supervisor uses it."""

    def obey(self, asked: TimedRequest | UnsetType, now: float) -> None:
        """Begin to send lines when a directive asks for it."""
        ...

    def events(self, now: float) -> list[Event]:
        """Lines that are due; joins a transaction."""
        ...

    def deadline(self, now: float) -> float:
        """When ``events`` is next worth calling."""
        ...


class NoLogWatch:
    """Sends nothing of a log."""

    def obey(self, asked: TimedRequest | UnsetType, now: float) -> None:
        del asked, now

    def events(self, now: float) -> list[Event]:
        del now
        return []

    def deadline(self, now: float) -> float:
        del now
        return float("inf")


class HubContact(Protocol):
    """``identity.contact.Contacts``, as far as the supervisor uses it."""

    @property
    def digest(self) -> str:
        """Of what was taken last; empty: nothing was."""
        ...

    @property
    def authorities(self) -> tuple[str, ...]:
        """Whose certificates are believed at the hub: SHA-256 of theirs."""
        ...

    def follow(self, wanted: Contact | UnsetType, signed: Approved | None) -> None:
        """Take what a directive tells when targets name the same; never raises."""
        ...


class AsEnrolled:
    """Goes nowhere else."""

    digest = ""
    authorities: tuple[str, ...] = ()

    def follow(self, wanted: Contact | UnsetType, signed: Approved | None) -> None:
        pass


class OutboxStats(Protocol):
    """How full the outbox is, as reports say it."""

    @property
    def rows(self) -> int:
        """Rows that the hub has not acknowledged."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of these rows."""
        ...

    @property
    def waiting_for(self) -> str:
        """Why rows wait although the link is up; empty when they don't."""
        ...


class Outbox(Protocol):
    """``observe.outbox.Outbox``, as far as the supervisor uses it."""

    def put_event(self, event: Event) -> None:
        """Queue an event for the hub; raises sqlite3.Error."""
        ...

    def next(self, now: float, sent: Stamp) -> tuple[Stream, Batch] | None:
        """The next batch that is due, and its stream; None when nothing is."""
        ...

    def acknowledge(self, ack: Ack) -> int:
        """Drop rows that the hub has committed; how many."""
        ...

    def not_sent(self, stream: Stream, batch: Batch) -> None:
        """The link refused a batch: send its rows again."""
        ...

    def due(self, now: float) -> float | None:
        """When something will have to be sent; None while nothing waits."""
        ...

    def reconnected(self) -> None:
        """Whatever was in flight may be lost: send it again."""
        ...

    def stats(self) -> OutboxStats:
        """How full it is now."""
        ...


_UNBOUNDED = Allowance()


@dataclass(frozen=True)
class SupervisorSettings:
    """Times in seconds."""

    device: str
    report_seconds: float = 60.0
    metadata_wait_seconds: float = 20.0
    chunk_silence_seconds: float = 4.0
    fetch_window: int = limits.FETCH_WINDOW_CHUNKS
    restart_seconds: tuple[float, float] = (0.5, 60.0)
    retry_seconds: tuple[float, float] = (60.0, 3600.0)
    stop_seconds: float = 10.0
    certificate_expires: int = 0
    time_zone: tzinfo | None = None
    """For maintenance windows and fetch hours; None: the system's."""
    allowance: Allowance = _UNBOUNDED


_NO_CONDITIONS = NoConditions()
_NO_CRASH_INPUTS = NoCrashInputs()
_NO_FEEDS = NoFeeds()
_NO_SAMPLING = NoSampling()
_AS_ENROLLED = AsEnrolled()
_NO_DIAGNOSIS = NoDiagnosis()
_NO_LOG_WATCH = NoLogWatch()


@dataclass(frozen=True)
class SupervisorPorts:
    """What the supervisor acts on."""

    clock: Clock
    link: Link
    http: HttpGetter
    state: StateDatabase
    install: BundleInstall
    links: CurrentLinks
    trust: TrustSource
    launcher: Launcher
    telemetry: Telemetry
    outbox: Outbox
    facts: Callable[[], Facts]
    rng: random.Random
    signs: Callable[[str, Goal], SlotSigns] = lambda _slot, _goal: SlotSigns()
    """What the closed windows of a goal's model in a slot say of its health."""
    rebaseline: Callable[[str, Goal, int], None] = lambda _slot, _goal, _times: None
    judge_drift: Callable[[str, Goal, Drift | UnsetType], None] = lambda _slot, _goal, _drift: None
    """How a directive has drift of what runs in a slot judged."""
    """Told at each directive how often what a slot's champion sees was called normal."""
    prove: Callable[[Report], bytes] = lambda _report: b""
    """Sign a report with the device's identity key."""
    inputs: SwapConditions = _NO_CONDITIONS
    """What on the device may forbid a swap."""
    crash_inputs: CrashInputs = _NO_CRASH_INPUTS
    sampling: Sampling = _NO_SAMPLING
    """What takes rows for the hub where a directive asks for them."""
    contact: HubContact = _AS_ENROLLED
    """Where the hub is sought."""
    diagnosis: Diagnosis = _NO_DIAGNOSIS
    """What looks at everything here when an operator asks for it."""
    log: LogWatch = _NO_LOG_WATCH
    """What sends the log's lines while an operator watches it."""
    challenge: Launch = no_launch
    """Makes workers of challengers."""
    show_offline: Callable[[Offline | None], None] = lambda _offline: None
    """Show whoever stands before the device why it is offline, or that it no longer is."""
    feeds: FeedWatch = _NO_FEEDS
    """What asks the slots on behalf of machines."""
    agent: AgentPorts | None = None
    """What the agent can do with itself; None: no launcher would switch to another release."""
    directory: Path | None = None
    """The agent's, where imported folders come; None: none do."""
