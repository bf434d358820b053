"""The probation of a slot's candidate: from its swap on, judged by its counts and its answers."""

from typing import Any, Literal

from muster_agent.storage.rows import JournalRow, Pointer
from muster_agent.update.ports import SlotPorts
from muster_agent.update.probation import Tally, Trial
from muster_agent.update.table import Cause
from muster_agent.update.workers import Counts
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Probation

Fault = tuple[Refusal, str]
_NEVER = float("inf")


class Proving:
    """Times are monotonic seconds."""

    def __init__(self, slot: str, ports: SlotPorts) -> None:
        self._slot = slot
        self._ports = ports
        self._trial: Trial | None = None

    @property
    def running(self) -> bool:
        """A candidate is on probation."""
        return self._trial is not None

    def deadline(self) -> float:
        """When time alone will have been served."""
        return self._trial.deadline() if self._trial is not None else _NEVER

    def begin(
        self, bounds: Probation, row: JournalRow, now: float, champion: Counts | None
    ) -> None:
        """Go on from what the journal says; ``champion``: counts of the model before."""
        self._trial = Trial.of(bounds, row, now, champion)

    def clear(self) -> None:
        """No candidate is on probation any more."""
        self._trial = None

    def tally(self, now: float) -> Tally:
        """Of the probation so far, over all its stretches; it must be running."""
        assert self._trial is not None
        return self._trial.tally(now)

    def judge(
        self, counts: Counts, goal: Goal, pointer: Pointer | None, now: float
    ) -> Literal[Cause.PASSED] | Fault | None:
        """PASSED, a reason to roll back, or None: not yet."""
        verdict = self._trial.judge(counts, now) if self._trial is not None else None
        if verdict is Cause.PASSED:
            return self._shifted(goal, pointer) or Cause.PASSED
        return verdict

    def mark(self, goal: Goal, pointer: Pointer | None, now: float) -> dict[str, Any] | Fault:
        """What the journal keeps of it now, or a reason to roll back."""
        tally = self.tally(now)
        mark = int(tally.seconds) + tally.inferences
        return self._shifted(goal, pointer) or {"mark": mark, **tally.changes()}

    def _shifted(self, goal: Goal, pointer: Pointer | None) -> Fault | None:
        """Its answers have moved as the champion's had not."""
        if pointer is None:
            return None
        evidence = self._ports.shifted(self._slot, goal, pointer.goal)
        return (Refusal.PROBATION_OUTPUTS, evidence) if evidence else None
