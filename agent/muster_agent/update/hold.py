"""Where one slot's swap waits: asked before a candidate starts, and again before it serves."""

import random
from collections.abc import Callable

from muster_agent.update.permit import RECONNECT_SECONDS
from muster_agent.update.ports import Permits
from muster_protocol.wire.directive import Goal

_NEVER = float("inf")


class Hold:
    """``hold`` is what the swap waits for, empty when nothing; ``look_at`` when to ask again."""

    def __init__(
        self, slot: str, permits: Permits, rng: random.Random, changed: Callable[[], None]
    ) -> None:
        self.reason = ""
        self.look_at = _NEVER
        self._slot = slot
        self._permits = permits
        self._rng = rng
        self._changed = changed

    def may_start(self, goal: Goal, generation: int, now: float) -> bool:
        """Whether a candidate may start now; asks the hub for a permit when one is due."""
        return self._open(self._permits.waits_for(self._slot, goal, generation, now), now)

    def may_serve(self, now: float) -> bool:
        """The machine may have begun to forbid the swap while the candidate started."""
        return self._open(self._permits.in_the_way(self._slot), now)

    def link_up(self, now: float) -> None:
        """The hub can be asked again, which may be what is waited for."""
        soon = now + RECONNECT_SECONDS * self._rng.uniform(1.0, 1.5)
        self.look_at = min(self.look_at, soon) if self.reason else _NEVER

    def clear(self) -> None:
        """Nothing is waited for: the swap is under way, or there is none."""
        self.reason, self.look_at = "", _NEVER

    def _open(self, reason: str, now: float) -> bool:
        if reason != self.reason:
            self.reason = reason
            self._changed()
        pause = self._permits.look_seconds(self._slot) * self._rng.uniform(0.75, 1.25)
        self.look_at = now + pause if reason else _NEVER
        return not reason
