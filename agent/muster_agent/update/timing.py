"""How long the steps of an update took, for the events that the hub hears of it."""

from muster_agent.update.table import State
from muster_protocol.wire.trace import SECONDS

_AT_REST = frozenset({State.IDLE, State.COMMITTED, State.FAILED})


class StepTimes:
    """Times are monotonic seconds; what began before the agent did isn't known, and left out."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._spent: dict[str, float] = {}

    def left(self, before: State, now: float, *, said: bool) -> dict[str, float]:
        """A step of the update is over: when that is ``said`` to the hub, how long each took since
        the last that was, as values of an event."""
        if before not in _AT_REST and self._since is not None:
            name = f"{before.value}{SECONDS}"
            self._spent[name] = self._spent.get(name, 0.0) + max(now - self._since, 0.0)
        elif before in _AT_REST:
            self._spent = {}
        self._since = now
        if not said:
            return {}
        spent, self._spent = self._spent, {}
        return spent
