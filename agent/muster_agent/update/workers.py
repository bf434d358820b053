"""The workers of one slot: which one serves, which waits, and what their events mean.

At most two models live: the champion and a candidate. Exactly one of them accepts requests once
anything is ready. A champion that dies is started again after a jittered, growing pause; until a
model serves again a stand-in without one answers by the signed manifest's fallback contract.
Where memory is too short for both models one leaves before the other starts.
"""

import random
from dataclasses import dataclass

from muster_agent.update.processes import (
    Counts,
    Launcher,
    LaunchRefused,
    Running,
    Worker,
    start,
)
from muster_agent.worker.events import ComputedBy
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal

__all__ = [
    "CandidateFailed",
    "CandidateReady",
    "ChampionDied",
    "ChampionServes",
    "Counts",
    "Crashed",
    "LaunchRefused",
    "Launcher",
    "Note",
    "Running",
    "SlotWorkers",
    "Worker",
]

RESTARTS_DOUBLED_MAX = 16
STEADY_SECONDS = 60.0
"""A champion that served this long before it died is started again after the shortest pause."""


@dataclass(frozen=True)
class CandidateReady:
    """The candidate can serve."""


@dataclass(frozen=True)
class CandidateFailed:
    """The candidate did not become ready."""

    refusal: Refusal
    detail: str
    from_outside: bool = False
    """A signal that others send ended it: perhaps the agent is about to be stopped too."""


@dataclass(frozen=True)
class Crashed:
    """The candidate died after it was ready."""

    detail: str
    from_outside: bool = False


@dataclass(frozen=True)
class ChampionServes:
    """The champion is ready and accepts, or there is none."""


@dataclass(frozen=True)
class ChampionDied:
    """The champion's worker ended by itself; it will be started again."""

    goal: Goal
    refusal: Refusal
    detail: str
    failures: int
    """In a row, this one included."""


Note = CandidateReady | CandidateFailed | Crashed | ChampionServes | ChampionDied


class SlotWorkers:
    """Holds the workers of ``slot``. Times are monotonic seconds."""

    def __init__(
        self,
        slot: str,
        launcher: Launcher,
        *,
        restart_seconds_min: float,
        restart_seconds_max: float,
        stop_seconds: float,
        rng: random.Random,
    ) -> None:
        self.slot = slot
        self.champion: Running | None = None
        self.candidate: Running | None = None
        self.goal: Goal | None = None
        """What the champion should be."""
        self.fallback: str | None = None
        """Which of the manifest's fallbacks answers when no model can; None: its first."""
        self.stand_in: Running | None = None
        self.alone = False
        """There is no memory for champion and candidate together."""
        self.replaced: Counts | None = None
        """Of the champion that made room for the candidate."""
        self._next: Goal | None = None
        """The candidate that starts once all who leave have left."""
        self._launcher = launcher
        self._restart_seconds = (restart_seconds_min, restart_seconds_max)
        self._stop_seconds = stop_seconds
        self._rng = rng
        self._failures = 0
        self._restart_at = float("inf")
        self._leaving: dict[str, Running] = {}

    @property
    def serving(self) -> Running | None:
        """The worker whose model answers requests now."""
        for running in (self.candidate, self.champion):
            if running is not None and running.accepting:
                return running
        return None

    @property
    def falls_back(self) -> bool:
        """No model answers now, but the manifest's fallback does."""
        return self.stand_in is not None and self.stand_in.accepting

    def all(self) -> list[Running]:
        """Every process of the slot, those that are ending included."""
        known = [self.champion, self.candidate, self.stand_in, *self._leaving.values()]
        return [running for running in known if running is not None]

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        return float("inf") if self._crowded else self._restart_at

    @property
    def _crowded(self) -> bool:
        """Somebody must leave before another model may start."""
        return self.alone and bool(self._leaving)

    def serve(self, goal: Goal, now: float) -> list[Note]:
        """Have the committed champion serve; at boot, and when it must be restored."""
        self.goal = goal
        if self.champion is None and self._restart_at == float("inf"):
            self._restart_at = now
        return self.tick(now)

    def tick(self, now: float) -> list[Note]:
        """Start the champion again when its pause is over."""
        if now < self._restart_at or self.goal is None or self._crowded:
            return []
        self._restart_at = float("inf")
        launched = self._launch(self.goal)
        if isinstance(launched, CandidateFailed):
            return self._champion_gone(self.goal, launched.refusal, launched.detail, now)
        self.champion = launched
        return []

    def try_candidate(self, goal: Goal) -> list[Note]:
        """Start the candidate beside the champion."""
        self.drop_candidate()
        self.alone = False
        return self._try(goal)

    def replace(self, goal: Goal) -> list[Note]:
        """Stop the champion, and start the candidate when it has gone."""
        self.drop_candidate()
        self.alone, self._next = True, goal
        self._restart_at = float("inf")
        if self.champion is not None:
            self.replaced = self.champion.counts
            self._leave(self.champion)
            self.champion = None
        if self.goal is not None:
            self._begin_stand_in(self.goal)
        return self._start_next()

    def _start_next(self) -> list[Note]:
        if self._next is None or self._crowded:
            return []
        goal, self._next = self._next, None
        return self._try(goal)

    def _try(self, goal: Goal) -> list[Note]:
        launched = self._launch(goal)
        if isinstance(launched, CandidateFailed):
            return [launched]
        self.candidate = launched
        return []

    def swap(self) -> None:
        """The ready candidate accepts, then the champion stops accepting; it stays loaded."""
        if self.candidate is not None:
            self._accept(self.candidate)
        if self.champion is not None and self.champion.accepting:
            self.champion.accepting = False
            self.champion.worker.pause()

    def restore(self, now: float) -> list[Note]:
        """The champion accepts again, then the candidate goes."""
        if self.champion is not None and self.champion.ready:
            self._accept(self.champion)
            self.drop_candidate()
            return [ChampionServes()]
        self.drop_candidate()
        if self.goal is None:
            return [ChampionServes()]
        if self.alone:
            self._begin_stand_in(self.goal)
        return self.serve(self.goal, now)

    def promote(self, goal: Goal, now: float) -> list[Note]:
        """The candidate that serves ``goal`` is the champion now; the old one goes."""
        self.goal = goal
        self.alone, self.replaced = False, None
        if self.candidate is not None and self.candidate.goal.manifest == goal.manifest:
            old, self.champion, self.candidate = self.champion, self.candidate, None
            self._leave(old)
            self._restart_at = float("inf")
            self._failures = 0
            self._accept(self.champion)
            return []
        self.drop_candidate()
        if self.champion is not None and self.champion.goal.manifest != goal.manifest:
            self._leave(self.champion)
            self.champion = None
        if self.champion is not None and self.champion.ready:
            self._accept(self.champion)
        return self.serve(goal, now)

    def demote(self, goal: Goal, now: float, *, beside: bool) -> list[Note]:
        """``goal`` is the champion now; what serves goes on until that is ready, if ``beside``."""
        self.drop_candidate()
        last, self.champion = self.champion, None
        if last is not None and last.accepting and beside:
            self.candidate = last
        else:
            self._leave(last)
        self.goal, self.alone, self.replaced = goal, not beside, None
        self._restart_at, self._failures = float("inf"), 0
        self._begin_stand_in(goal)
        return self.serve(goal, now)

    def drop_candidate(self) -> None:
        """End the candidate; nothing changes for the champion."""
        self._leave(self.candidate)
        self.candidate = self._next = None

    def stop(self) -> None:
        """Stop every worker for good; each ends with an event."""
        self.goal = None
        self._restart_at = float("inf")
        self.drop_candidate()
        self._drop_stand_in()
        self._leave(self.champion)
        self.champion = None

    def idle(self) -> bool:
        """No worker process is left."""
        return not self.all()

    def knows(self, worker_id: str) -> bool:
        """Whether a worker is one of this slot's, running or ending."""
        return any(running.id == worker_id for running in self.all())

    # Events of the processes

    def on_ready(self, worker_id: str, computed_by: ComputedBy, now: float) -> list[Note]:
        """A worker has loaded and passed; what that means for the slot."""
        if self.candidate is not None and self.candidate.id == worker_id:
            self.candidate.ready, self.candidate.computed_by = True, computed_by
            self.candidate.ready_at = now
            return [CandidateReady()]
        if self.champion is not None and self.champion.id == worker_id:
            self.champion.ready, self.champion.computed_by = True, computed_by
            self.champion.ready_at = now
            if self.candidate is None or not self.candidate.accepting:
                self._accept(self.champion)
            if self.candidate is None and self._next is None:
                self.alone, self.replaced = False, None
            return [ChampionServes()]
        if self.stand_in is not None and self.stand_in.id == worker_id:
            self.stand_in.ready = True
            if self.serving is None:
                self.stand_in.accepting = True
                self.stand_in.worker.accept()
        return []

    def on_counts(self, worker_id: str, counts: Counts) -> None:
        """A worker says how much it has done since it started."""
        for running in (self.champion, self.candidate):
            if running is not None and running.id == worker_id:
                running.counts = counts

    def on_end(
        self, worker_id: str, refusal: Refusal, detail: str, now: float, *, from_outside: bool
    ) -> list[Note]:
        """A worker failed to start, or exited."""
        if self._leaving.pop(worker_id, None) is not None:
            return self._start_next()
        if self.candidate is not None and self.candidate.id == worker_id:
            was_ready, self.candidate = self.candidate.ready, None
            if was_ready:
                return [Crashed(detail, from_outside)]
            return [CandidateFailed(refusal, detail, from_outside)]
        if self.champion is not None and self.champion.id == worker_id:
            goal, lived = self.champion.goal, now - self.champion.ready_at
            self.champion = None
            if lived >= STEADY_SECONDS:
                self._failures = 0
            return self._champion_gone(goal, refusal, detail, now)
        if self.stand_in is not None and self.stand_in.id == worker_id:
            self.stand_in = None  # The champion's next failure brings another.
        return []

    def _champion_gone(self, goal: Goal, refusal: Refusal, detail: str, now: float) -> list[Note]:
        least, most = self._restart_seconds
        pause = min(most, least * 2 ** min(self._failures, RESTARTS_DOUBLED_MAX))
        self._failures += 1
        self._restart_at = now + pause * self._rng.uniform(0.75, 1.25)
        self._begin_stand_in(goal)
        return [ChampionDied(goal, refusal, detail, self._failures)]

    def _accept(self, running: Running) -> None:
        if not running.accepting:
            running.accepting = True
            running.worker.accept()
        self._drop_stand_in()

    def _begin_stand_in(self, goal: Goal) -> None:
        if self.stand_in is not None or self.serving is not None:
            return
        try:
            self.stand_in = start(self._launcher, self.slot, goal, self.fallback, model=False)
        except LaunchRefused:
            self.stand_in = None  # The release declared no fallback: requests wait for the model.

    def _drop_stand_in(self) -> None:
        self._leave(self.stand_in)
        self.stand_in = None

    def _leave(self, running: Running | None) -> None:
        if running is not None:
            running.accepting = False
            self._leaving[running.id] = running
            running.worker.stop(self._stop_seconds if running.ready else 0.0)

    def _launch(self, goal: Goal) -> Running | CandidateFailed:
        try:
            return start(self._launcher, self.slot, goal, self.fallback)
        except LaunchRefused as refused:
            return CandidateFailed(refused.refusal, str(refused))
