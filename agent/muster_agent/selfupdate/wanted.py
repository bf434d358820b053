"""The release of the agent that a directive names: fetched as a bundle is, installed, tried.

The record says what runs and what is on trial, ``asked.json`` beside it which order was acted on
last and why it was refused. A refusal stays until another release or a fresh attempt is asked for.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from muster_agent.base.system_error import as_refusal
from muster_agent.selfupdate import record
from muster_agent.selfupdate.record import Record
from muster_agent.storage.content import ChunksMissing, StoreRefused
from muster_agent.storage.files import write_durably
from muster_agent.update.bundle import STEP_BYTES, BundleInstall
from muster_agent.update.ports import Progress
from muster_agent.update.table import PASSING
from muster_protocol.wire import agent_release, limits, messages
from muster_protocol.wire.directive import Goal, WantedAgent
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.messages import UpdateState

FILE = "release.muster"
ASKED = "asked.json"
NO_LINK = "the link to the hub, which the next agent has to find, too"
LOOK_SECONDS = 2.0
"""How often what says nothing by itself is looked at: a hold, the machine, the trial's outcome."""
_NEVER = float("inf")


@dataclass(frozen=True)
class AgentInstalled:
    """The installer has ended: the release is tried from the next start on, or why it isn't."""

    manifest: str
    refusal: tuple[Refusal, str] | None


class Order(Struct, frozen=True, omit_defaults=True):
    """The order that was acted on last."""

    manifest: str = ""
    attempt: str = ""
    refusal: Refusal | None = None
    detail: str = ""


class Fetches(Protocol):
    """``update.delivery.BundleDelivery``, as far as it is used here."""

    def begin(self, slot: str, goal: Goal, now: float) -> None:
        """Fetch what a goal lacks; the outcome comes to ``fetched``."""
        ...

    def cancel(self, slot: str, now: float) -> None:
        """Fetch nothing more for it."""
        ...

    def progress(self, slot: str) -> Progress:
        """How far it has come."""
        ...

    def waiting(self, slot: str) -> str:
        """What the download waits for; empty: nothing."""
        ...


@dataclass(frozen=True)
class AgentPorts:
    """What an agent that a launcher has started can do with itself."""

    directory: Path
    version: str
    """What runs."""
    install: Callable[[Goal, Path], None]
    """Install the release in a file on a thread of its own; the outcome comes as
    ``AgentInstalled``. The next agent must connect to prove itself."""
    restart: Callable[[], None]
    """End this agent, for its service to start the one on trial."""


@dataclass(frozen=True)
class Surroundings:
    """What the supervisor has for it."""

    delivery: Fetches
    install: BundleInstall
    in_the_way: Callable[[], str]
    """Why the agent must not restart now; empty: it may."""
    connected: Callable[[], bool]
    stamp: Callable[[], messages.Stamp]
    report: Callable[[messages.Event], None]
    changed: Callable[[], None]
    rng: random.Random
    retry_seconds: tuple[float, float]


class AgentUpdate:
    """Times are monotonic seconds. Without ``own`` ports it does nothing: nobody would switch."""

    def __init__(self, own: AgentPorts | None, around: Surroundings) -> None:
        self._own = own
        self._around = around
        self._goal: Goal | None = None
        self._attempt = ""
        self._generation = 0
        self._state: UpdateState = "idle"
        self._refusal: Refusal | None = None
        self._detail = ""
        self._waiting_for = ""
        self._pieces: Iterator[int] | None = None
        self._installing: Goal | None = None
        self._whole = False
        """The release's file is here, to be installed."""
        self._placed: Goal | None = None
        """What was installed for the next start to try."""
        self._tries = 0
        self._look_at = _NEVER
        self._begin_at = _NEVER

    def want(self, wanted: WantedAgent | UnsetType, generation: int, now: float) -> None:
        """What the directive in force says."""
        if self._own is None:
            return
        goal = None if isinstance(wanted, UnsetType) else wanted.release
        attempt = ""
        if not isinstance(wanted, UnsetType) and wanted.attempt is not UNSET:
            attempt = wanted.attempt
        same = (goal, attempt) == (self._goal, self._attempt)
        self._goal, self._attempt, self._generation = goal, attempt, generation
        if not same:
            self._tries = 0
            self._begin_at = now

    def tick(self, now: float) -> None:
        """Do what is due; raises OSError, and is to be called again then."""
        own = self._own
        if own is None or self._installing is not None:
            return  # The installer's outcome is awaited.
        if now >= self._begin_at:
            self._begin(own, now)
            self._begin_at = _NEVER
        elif self._pieces is not None:
            self._assemble(now)
        elif now >= self._look_at:
            self._look(own, now)

    def deadline(self) -> float:
        """When ``tick`` is next worth calling."""
        if self._own is None or self._installing is not None:
            return _NEVER
        return 0.0 if self._pieces is not None else min(self._begin_at, self._look_at)

    def fetched(self, refusal: tuple[Refusal, str] | None, now: float) -> None:
        """All of the release is here, or why it won't come."""
        if self._own is None or self._goal is None or self._state != "fetching":
            return
        if refusal is not None:
            self._refuse(*refusal, now)
            return
        self._enter("verifying")
        try:
            (listed,) = self._around.install.files(self._goal)
        except (ChunksMissing, StoreRefused) as error:
            self._refuse(Refusal.FILE_MISMATCH, str(error), now)
            return
        self._pieces = self._around.install.store.write_out(_file(self._own), listed)

    def installed(self, done: AgentInstalled, now: float) -> None:
        """The installer has ended."""
        own, goal = self._own, self._installing
        self._installing = None
        if own is None or goal is None:
            return
        _file(own).unlink(missing_ok=True)
        self._whole = False
        self._placed = None if done.refusal is not None else goal
        if self._goal is None or self._goal.manifest != goal.manifest:
            self._begin_at = now
        elif done.refusal is not None:
            self._refuse(*done.refusal, now)
        else:
            self._enter("staged")
            self._look_at = now

    def needs(self) -> frozenset[str]:
        """Listings whose chunks the store must keep."""
        wanted = self._goal is not None and self._state in ("fetching", "verifying")
        return frozenset({self._goal.manifest} if wanted and self._goal else ())

    def report(self) -> messages.Update | None:
        """Where it stands; None when nothing is asked for."""
        goal = self._goal
        if self._own is None or goal is None:
            return None
        progress = self._around.delivery.progress(agent_release.NAME)
        waiting = self._around.delivery.waiting(agent_release.NAME)
        return messages.Update(
            state=self._state,
            model=goal.model,
            version=goal.version,
            manifest=goal.manifest,
            generation=self._generation,
            bytes_done=progress.done_bytes,
            bytes_total=progress.total_bytes,
            waiting_for=waiting or self._waiting_for,
            refusal=self._refusal,
            detail=self._detail,
            fetch_seconds=progress.seconds,
            fetched_from=progress.source,
        )

    def _begin(self, own: AgentPorts, now: float) -> None:
        """Compare what is wanted with what is here, and begin with what lacks."""
        self._around.delivery.cancel(agent_release.NAME, now)
        if (placed := self._placed) is not None:
            record.change(own.directory, lambda held: record.withdrawn(held, placed.version))
        self._placed, self._pieces, self._whole, self._look_at = None, None, False, _NEVER
        _file(own).unlink(missing_ok=True)
        found, goal = record.load(own.directory) or Record(), self._goal
        if goal is None:
            self._enter("idle")
        elif found.trial is not None:
            self._enter("probation" if found.trial.starts else "staged")
            self._waiting_for = record.words(found)
            self._look_at = now + LOOK_SECONDS
        elif own.version == goal.version:
            self._enter("committed")
        elif not self._refused_before(own, goal, found, now):
            self._enter("fetching")
            self._around.delivery.begin(agent_release.NAME, goal, now)

    def _refused_before(self, own: AgentPorts, goal: Goal, found: Record, now: float) -> bool:
        asked, back = _order(own), found.taken_back
        if (asked.manifest, asked.attempt) != (goal.manifest, self._attempt):
            record.change(own.directory, lambda held: record.forgiven(held, goal.version))
            _keep(own, Order(goal.manifest, self._attempt))
            return False
        if asked.refusal is not None:
            self._enter("failed", asked.refusal, asked.detail)
            return True
        if back is not None and back.version == goal.version:
            self._refuse(Refusal.AGENT_TAKEN_BACK, back.why, now, kind="rolled_back")
            return True
        return False

    def _look(self, own: AgentPorts, now: float) -> None:
        """At what the next step waits for."""
        if self._placed is not None:
            self._restart(own, now)
        elif self._whole:
            self._install(own, now)
        else:
            self._look_at, self._begin_at = _NEVER, now

    def _may(self, now: float, *, needs_link: bool = False) -> bool:
        reason = self._around.in_the_way()
        if needs_link and not reason and not self._around.connected():
            reason = NO_LINK
        if reason != self._waiting_for:
            self._waiting_for = reason
            self._around.changed()
        self._look_at = now + LOOK_SECONDS if reason else _NEVER
        return not reason

    def _install(self, own: AgentPorts, now: float) -> None:
        """It takes the processor for minutes, and then the agent restarts.

        Not while the link is away: of the next agent nobody could ask that it finds the hub, and
        one that never does would be in place for good.
        """
        if self._goal is not None and self._may(now, needs_link=True):
            self._enter("starting")
            self._installing = self._goal
            own.install(self._goal, _file(own))

    def _restart(self, own: AgentPorts, now: float) -> None:
        if self._may(now):
            self._enter("starting")
            own.restart()

    def _assemble(self, now: float) -> None:
        """The release's file out of its chunks, some bytes at a time."""
        assert self._pieces is not None
        done = 0
        try:
            for size in self._pieces:
                done += size
                if done >= STEP_BYTES:
                    return
        except ChunksMissing:
            self._begin_at = now  # One was damaged on the disk.
        except StoreRefused as refused:
            self._refuse(refused.refusal, str(refused), now)
        except OSError as error:
            self._refuse(*as_refusal(error, Refusal.DEVICE_FAULT), now)
        else:
            self._enter("staged")
            self._whole, self._look_at = True, now
        self._pieces = None

    def _refuse(
        self,
        refusal: Refusal,
        detail: str,
        now: float,
        *,
        kind: Literal["refused", "rolled_back"] = "refused",
    ) -> None:
        """For good, or for a while where the reason lies in the surroundings; told once."""
        own, goal = self._own, self._goal
        assert own is not None
        assert goal is not None
        detail = detail[: limits.EVENT_DETAIL_CHARS_MAX]
        self._enter("failed", refusal, detail)
        self._tries += 1
        if refusal in PASSING:
            least, most = self._around.retry_seconds
            pause = min(most, least * 2.0 ** min(self._tries - 1, 16))
            self._begin_at = now + pause * self._around.rng.uniform(0.75, 1.25)
        else:
            _keep(own, Order(goal.manifest, self._attempt, refusal, detail))
        if self._tries > 1:
            return
        self._around.report(
            messages.Event(
                kind=kind,
                at=self._around.stamp(),
                slot=agent_release.NAME,
                model=goal.model,
                version=goal.version,
                manifest=goal.manifest,
                generation=self._generation,
                state="failed",
                refusal=refusal,
                detail=detail,
            )
        )

    def _enter(self, state: UpdateState, refusal: Refusal | None = None, detail: str = "") -> None:
        self._state, self._refusal, self._detail, self._waiting_for = state, refusal, detail, ""
        self._around.changed()


def _file(own: AgentPorts) -> Path:
    return own.directory / record.DIRECTORY / FILE


def _order(own: AgentPorts) -> Order:
    """A file that is damaged counts as none."""
    try:
        data = (own.directory / record.DIRECTORY / ASKED).read_bytes()
        return msgspec.json.decode(data, type=Order)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return Order()


def _keep(own: AgentPorts, asked: Order) -> None:
    path = own.directory / record.DIRECTORY / ASKED
    write_durably(path, msgspec.json.encode(asked), mode=0o600)
