"""How a slot's candidate starts: beside the champion, or after that has made room for it."""

from typing import Protocol

from muster_agent.update.bundle import BundleInstall
from muster_agent.update.hold import Hold
from muster_agent.update.memory import Gap, StopStart
from muster_agent.update.workers import CandidateFailed, Note, SlotWorkers
from muster_protocol.wire.directive import Goal


class NoteEvent(Protocol):
    """Put an event about the update in hand into the outbox; raises sqlite3.Error."""

    def __call__(self, detail: str, **values: float) -> None: ...


class Starting:
    """Times are monotonic seconds."""

    def __init__(
        self, workers: SlotWorkers, install: BundleInstall, hold: Hold, note: NoteEvent
    ) -> None:
        self.gap = Gap()
        self.waits = False
        """The start waits until the champion serves, or the machine permits a gap."""
        self._workers = workers
        self._install = install
        self._hold = hold
        self._note = note

    def begin(self, goal: Goal, now: float, *, anyhow: bool) -> list[Note]:
        """Start the candidate, unless memory is short; ``anyhow``: then too, beside the champion.

        A gap is told before it begins: what can't be told doesn't happen.
        """
        self.waits = False
        workers, champion = self._workers, self._workers.champion
        if workers.goal is None:
            return workers.try_candidate(goal)
        serves = champion is not None and champion.ready
        plan = self._install.plan(goal, None if serves else workers.goal)
        makes_room = isinstance(plan, StopStart) and champion is not None
        if makes_room and not (serves and self._hold.may_serve(now)):
            self.waits = True
            return []
        self._hold.clear()  # What was in the way of an earlier try may not be asked again.
        if isinstance(plan, StopStart):
            self._note(
                f"{plan.why}: that one stops now, for at most {plan.gap_seconds_max:g} s",
                gap_seconds_max=plan.gap_seconds_max,
            )
            self.gap.begin(now, plan.gap_seconds_max)
            return workers.replace(goal)
        if plan == "beside" or anyhow:
            return workers.try_candidate(goal)
        return [CandidateFailed(*plan)]

    def again(self, goal: Goal, now: float) -> list[Note]:
        """After the candidate has died on probation; the champion serves meanwhile, if it can."""
        before = [] if self._workers.alone else self._workers.restore(now)
        return [*before, *self.begin(goal, now, anyhow=True)]

    def over(self, now: float) -> float | None:
        """A model answers: end the gap, tell it, and return its seconds, None without a gap."""
        seconds = self.gap.end(now)
        if seconds is not None:
            self._note(f"no model answered for {seconds:.1f} s", gap_seconds=seconds)
        return seconds
