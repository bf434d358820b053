"""Starting anew because an operator asked the hub for it: once a request, and not too late."""

import logging
from collections.abc import Callable

from msgspec import UnsetType

from muster_agent.storage.state import StateDatabase
from muster_agent.trust.time import Instant
from muster_protocol.wire.directive import TimedRequest

COUNTER = "restarts"

log = logging.getLogger(__name__)


class Restarting:
    """``wanted`` is looked at by whoever runs the supervisor; a stop as any other follows."""

    def __init__(
        self, state: StateDatabase, now: Callable[[], Instant], note: Callable[[str], None]
    ) -> None:
        """``now`` is trusted time; ``note`` puts a note for the hub into the outbox."""
        self.wanted = False
        self._state, self._now, self._note = state, now, note

    def obey(self, asked: TimedRequest | UnsetType) -> None:
        """A request is noted on the disk before it is obeyed: where nothing can be, it is not."""
        if isinstance(asked, UnsetType) or not self._state.durable:
            return
        if asked.request <= self._state.counter(COUNTER):
            return
        late = self._now().past(asked.until)
        words = "not obeyed, it came too late" if late else "obeyed"
        with self._state.transaction():
            self._state.reach(COUNTER, asked.request)
            self._note(f"the request to restart ({asked.request}) is {words}")
        log.warning("the request to restart (%d) is %s", asked.request, words)
        self.wanted = self.wanted or not late
