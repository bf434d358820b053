"""A slot's challenger: fetched, installed and started like any model, but it answers nobody.

It has no journal: nothing is ever committed to it, and after a restart the directive in force says
again what is wanted. Only its starts are counted, lest one takes the device down again and again.
Every ``tick`` looks at what is there and does the next thing towards it; whatever the slot's own
update needs goes first.
"""

import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from muster_agent.base.system_error import as_refusal
from muster_agent.storage.content import StoreRefused
from muster_agent.update.bundle import Bundle, BundleInstall
from muster_agent.update.memory import StopStart
from muster_agent.update.ports import Delivery
from muster_agent.update.processes import LaunchRefused, Running, Worker
from muster_agent.update.table import OF_METADATA, PASSING, Cause
from muster_agent.worker.events import ComputedBy
from muster_protocol.wire import messages
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX, JOURNAL_RESUMES_MAX

KEY_SUFFIX = "/challenger"
"""A slot's name with it is the challenger's name to the delivery; no slot's name has a slash."""
LOOK_SECONDS = 30.0
"""Pause before what a challenger waits for is looked at again."""
CRASHES_MAX = 3
"""A challenger that dies so often without having compared for a while is given up."""
STEADY_SECONDS = 600.0
SURE_SECONDS = 60.0
"""A challenger that has compared for so long was no reason for the device to go down."""
_NEVER = float("inf")


class Starts(Protocol):
    """Starts of a slot's challenger whose end nobody saw (``state.StateDatabase``)."""

    def challenger_starts(self, slot: str, manifest: str) -> int:
        """How many there have been in a row."""
        ...

    def challenger_begins(self, slot: str, manifest: str) -> None:
        """One more, durably. Raises sqlite3.Error."""
        ...

    def challenger_survived(self, slot: str) -> None:
        """Forget them. Raises sqlite3.Error."""
        ...


class Launch(Protocol):
    """Makes the worker of a challenger beside a running champion."""

    def __call__(self, slot: str, goal: Goal, champion: Running) -> tuple[str, Worker]:
        """A new, not yet started worker and its id. Raises LaunchRefused."""
        ...


def no_launch(slot: str, goal: Goal, champion: Running) -> tuple[str, Worker]:  # noqa: ARG001 - the port's names
    """For agents that run no challengers: always raises LaunchRefused."""
    raise LaunchRefused(Refusal.NO_RUNTIME, "this agent runs no challengers")


@dataclass(frozen=True)
class ChallengerPorts:
    """What challengers act on."""

    delivery: Delivery
    install: BundleInstall
    launch: Launch
    verdict: Callable[[Goal], tuple[Refusal, str] | None]
    changed: Callable[[], None]
    rng: random.Random
    retry_seconds: tuple[float, float]
    stop_seconds: float
    starts: Starts


class Challenger:
    """Times are monotonic seconds."""

    def __init__(self, slot: str, ports: ChallengerPorts) -> None:
        self.slot = slot
        self.key = slot + KEY_SUFFIX
        self.goal: Goal | None = None
        self.running: Running | None = None
        self._ports = ports
        self._champion = ""
        """Worker whose ring is replayed."""
        self._leaving: dict[str, Running] = {}
        self._fetching = False
        self._assembly: Bundle | None = None
        self._proved = False
        """Its bundle was hashed since it is wanted: what lies there already may have rotted."""
        self._waiting_for = ""
        self._refusal: tuple[Refusal, str] | None = None
        self._failures = self._crashes = 0
        self._look_at = _NEVER

    def deadline(self) -> float:
        """When ``tick`` should be called next."""
        return 0.0 if self._assembly is not None else self._look_at

    def want(self, goal: Goal | None, now: float) -> None:
        """The directive's challenger; the one in hand goes on, or stays refused."""
        if goal == self.goal:
            return
        self._put_down(now)
        self.goal, self._refusal, self._proved = goal, None, False
        self._failures = self._crashes = 0
        self._look_at = now if goal is not None else _NEVER
        self._ports.changed()

    def tick(self, champion: Running | None, in_the_way: str, now: float) -> None:
        """``champion`` is the worker that serves; ``in_the_way`` what goes first, in words."""
        if self.goal is None:
            return
        if in_the_way or champion is None or champion.goal.manifest == self.goal.manifest:
            self._put_down(now)
            own = "" if champion is None else "another model to serve"
            self._wait(in_the_way or own or "a model that serves", now)
        elif self.running is not None and self._champion != champion.id:
            self._end()
            self._look_at = now
        elif now >= self.deadline():
            self._go_on(self.goal, champion, now)

    def unwanted(self) -> None:
        """The directive names none: one that is named later begins anew."""
        self._survived()

    def stop(self) -> None:
        """End the worker for good; it ends with an event."""
        self.goal = None
        self._look_at = _NEVER
        self._assembly = None
        self._end()

    def idle(self) -> bool:
        """No process of it is left."""
        return self.running is None and not self._leaving

    def knows(self, worker_id: str) -> bool:
        """Whether a worker is this challenger's, running or ending."""
        current = self.running is not None and self.running.id == worker_id
        return current or worker_id in self._leaving

    def needs(self) -> frozenset[str]:
        """Manifests that the store must keep."""
        workers = [*self._leaving.values(), *([self.running] if self.running else [])]
        goals = [*([self.goal] if self.goal else []), *(worker.goal for worker in workers)]
        return frozenset(goal.manifest for goal in goals)

    @property
    def fetching(self) -> bool:
        """Chunks of it are in the store that no installed bundle holds yet."""
        return self._fetching or self._assembly is not None

    # Events

    def metadata_came(self, now: float) -> None:
        """What was not signed a moment ago may be now."""
        if self._refusal is not None and self._refusal[0] in OF_METADATA:
            self._look_at = now

    def fetched(self, refusal: tuple[Refusal, str] | None, now: float) -> None:
        """The end of a fetch."""
        self._fetching = False
        if refusal is not None:
            self._fault(*refusal, now)
        else:
            self._look_at = now

    def on_ready(self, computed_by: ComputedBy, now: float) -> None:
        """Its worker has passed the golden vectors and compares from now on."""
        if self.running is not None:
            self.running.ready, self.running.computed_by = True, computed_by
            self.running.ready_at = now
            self._look_at = now + SURE_SECONDS
            self._failures = 0
            self._waiting_for = ""
            self._ports.changed()

    def on_counts(self, worker_id: str, inferences: int, errors: int) -> None:
        """Its worker says how much it has done."""
        if self.running is not None and self.running.id == worker_id:
            self.running.counts = type(self.running.counts)(inferences, errors)

    def on_end(self, worker_id: str, refusal: Refusal, detail: str, now: float) -> None:
        """A worker failed to start, or exited."""
        if self._leaving.pop(worker_id, None) is not None or self.running is None:
            return
        self._survived()
        lived = now - self.running.ready_at if self.running.ready else 0.0
        was_ready, self.running = self.running.ready, None
        if not was_ready:
            self._fault(refusal, detail, now)
            return
        self._crashes = 1 if lived >= STEADY_SECONDS else self._crashes + 1
        if self._crashes >= CRASHES_MAX:
            reason = f"died {self._crashes} times: {detail}"
            self._refuse(Refusal.WORKER_DIED, reason)
            return
        self._pause(now)
        self._ports.changed()

    def report(self) -> messages.Challenger | None:
        """What it is and does, for the slot's report; None when there is none."""
        goal, running = self.goal, self.running
        if goal is None:
            return None
        return messages.Challenger(
            state=self._state(),
            model=goal.model,
            version=goal.version,
            manifest=goal.manifest,
            waiting_for=self._waiting_for,
            compared=running.counts.inferences if running is not None else 0,
            refusal=self._refusal[0].value if self._refusal else None,
            detail=self._refusal[1] if self._refusal else "",
        )

    # Towards the goal

    def _state(self) -> messages.ChallengerState:
        if self.running is not None:
            return "comparing" if self.running.ready else "starting"
        if self._fetching or self._assembly is not None:
            return "fetching"
        return "failed" if self._refusal is not None else "waiting"

    def _go_on(self, goal: Goal, champion: Running, now: float) -> None:
        if self.running is not None or self._fetching:
            self._look_at = _NEVER  # An event brings the next thing.
            if self.running is not None and now >= self.running.ready_at + SURE_SECONDS:
                self._survived()
            return
        self._waiting_for, self._refusal = "", None
        verdict = self._ports.verdict(goal)
        if verdict is not None:
            self._fault(*verdict, now)
        elif self._assembly is not None:
            self._assemble(self._assembly, now)
        elif not (self._proved and self._ports.install.installed(goal)):
            self._fetch(goal, now)
        else:
            self._start(goal, champion, now)

    def _fetch(self, goal: Goal, now: float) -> None:
        try:
            missing, _ = self._ports.install.chunks(goal)
        except StoreRefused as refused:
            self._fault(refused.refusal, str(refused), now)
            return
        if missing:
            self._fetching = True
            self._look_at = _NEVER
            self._ports.delivery.begin(self.key, goal, now)
        else:
            self._assembly = self._ports.install.begin(goal)
        self._ports.changed()

    def _assemble(self, assembly: Bundle, now: float) -> None:
        outcome = assembly.step()
        if outcome is None:
            return
        self._assembly = None
        self._look_at = now
        self._proved = outcome is Cause.VERIFIED
        if not isinstance(outcome, Cause):
            self._fault(*outcome, now)

    def _start(self, goal: Goal, champion: Running, now: float) -> None:
        plan = self._ports.install.plan(goal, None)
        if plan != "beside":
            self._wait(plan.why if isinstance(plan, StopStart) else plan[1], now)
            return
        starts = self._ports.starts.challenger_starts(self.slot, goal.manifest)
        if starts >= JOURNAL_RESUMES_MAX:
            reason = f"the device went down {starts} times after it was started"
            self._refuse(Refusal.RESUME_LIMIT, reason)
            return
        self._ports.starts.challenger_begins(self.slot, goal.manifest)
        try:
            worker_id, worker = self._ports.launch(self.slot, goal, champion)
            self.running = Running(worker_id, goal, worker)
            self._champion = champion.id
            worker.start()
        except LaunchRefused as refused:
            self._fault(refused.refusal, str(refused), now)
            return
        except OSError as error:
            self.running = None
            refusal, words = as_refusal(error, Refusal.WORKER_DIED)
            self._fault(refusal, f"the worker could not be started: {words}", now)
            return
        self._look_at = _NEVER
        self._ports.changed()

    def _put_down(self, now: float) -> None:
        """Nothing of it goes on; what was fetched stays."""
        self._assembly = None
        if self._fetching:
            self._fetching = False
            self._ports.delivery.cancel(self.key, now)
        self._end()

    def _survived(self) -> None:
        # What can't be written now costs a count too many, which the next end forgets.
        with suppress(sqlite3.Error):
            self._ports.starts.challenger_survived(self.slot)

    def _end(self) -> None:
        if self.running is not None:
            self._survived()
            self._leaving[self.running.id] = self.running
            self.running.worker.stop(self._ports.stop_seconds)
            self.running = None

    def _wait(self, what: str, now: float) -> None:
        if self._refusal is not None:
            return  # A failed one has nothing to wait for but its next try.
        if what != self._waiting_for:
            self._waiting_for = what
            self._ports.changed()
        if self._look_at <= now or self._look_at == _NEVER:
            self._look_at = now + LOOK_SECONDS * self._ports.rng.uniform(0.75, 1.25)

    def _fault(self, refusal: Refusal, detail: str, now: float) -> None:
        self._refuse(refusal, detail)
        if refusal in PASSING:
            self._pause(now)

    def _refuse(self, refusal: Refusal, detail: str) -> None:
        self._refusal = refusal, detail[:EVENT_DETAIL_CHARS_MAX]
        self._look_at = _NEVER
        self._ports.changed()

    def _pause(self, now: float) -> None:
        least, most = self._ports.retry_seconds
        pause = min(most, least * 2 ** min(self._failures, 16))
        self._failures += 1
        self._look_at = now + pause * self._ports.rng.uniform(0.75, 1.25)
