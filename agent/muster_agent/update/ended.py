"""A candidate that a signal from outside ended: whoever stops a machine may stop the agent next.

What happens then says nothing of the model. So its end is judged a moment later; an agent that was
stopped meanwhile has written nothing, and its next start goes on where the journal stands.
"""

from dataclasses import replace

from muster_agent.update.workers import CandidateFailed, Crashed

GRACE_SECONDS = 2.0
"""Longer than any stop takes to reach all processes of a service, the agent last."""
_NEVER = float("inf")


class Ended:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        self.until = _NEVER
        """When it is judged."""
        self._note: CandidateFailed | Crashed | None = None

    @property
    def waits(self) -> bool:
        """A candidate's end waits to be judged."""
        return self._note is not None

    def hold(self, note: CandidateFailed | Crashed, now: float) -> None:
        """Judge the end later: the machine may be going down, which is no fault of the model."""
        self._note, self.until = replace(note, from_outside=False), now + GRACE_SECONDS

    def due(self, now: float) -> list[CandidateFailed | Crashed]:
        """What is to be judged now, as if it had happened now."""
        if self._note is None or now < self.until:
            return []
        note = self._note
        self.clear()
        return [note]

    def clear(self) -> None:
        """There is nothing to judge any more."""
        self._note, self.until = None, _NEVER
