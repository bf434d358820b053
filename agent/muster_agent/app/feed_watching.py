"""Telling the hub how feeds stand while somebody looks at them there."""

from collections.abc import Mapping

from msgspec import UnsetType

from muster_agent.feeds.watch import FeedWatch, Served
from muster_agent.storage.state import StateDatabase
from muster_agent.update.runner import SlotRunner
from muster_protocol.wire.feed_report import FeedReport

COUNTER = "feed_watches"
WATCH_SECONDS = 120.0
"""How long a device tells it once somebody has begun to look."""


class FeedWatching:
    """Times are monotonic seconds. A request counts once, also across restarts."""

    def __init__(self, state: StateDatabase, feeds: FeedWatch) -> None:
        self._state, self._feeds = state, feeds
        self._until = float("-inf")

    def obey(self, asked: int | UnsetType, now: float) -> bool:
        """Whether a directive asks for more than it did; then it is told from now on."""
        if isinstance(asked, UnsetType) or asked <= self._state.counter(COUNTER):
            return False
        self._state.reach(COUNTER, asked)
        self._until = now + WATCH_SECONDS
        return True

    def seen(self, now: float) -> dict[str, FeedReport]:
        """For the report at ``now``; nothing while nobody looks."""
        return self._feeds.states() if now < self._until else {}


def served(runners: Mapping[str, SlotRunner]) -> dict[str, Served]:
    """What answers in each slot; where nothing does, what should."""
    found = {}
    for slot, runner in runners.items():
        serving = runner.workers.serving
        goal = runner.workers.goal if serving is None else serving.goal
        if goal is not None:
            found[slot] = Served(goal, runner.workers.fallback)
    return found
