"""Virtual time: a queue of things to do, in order of their moment and then of their making."""

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Scheduler:
    """``now`` is seconds since the world began; it moves only in ``step``."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Action]] = []
        self._made = 0

    def at(self, when: float, action: Action) -> None:
        self._made += 1
        heapq.heappush(self._queue, (max(when, self.now), self._made, action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now + seconds, action)

    def step(self, until: float) -> bool:
        """Do the next thing that is due by ``until``; False when nothing is."""
        if not self._queue or self._queue[0][0] > until:
            self.now = max(self.now, until)
            return False
        self.now, _, action = heapq.heappop(self._queue)
        self.steps += 1
        action()
        return True
