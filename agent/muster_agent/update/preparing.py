"""From a goal to its whole bundle on the disk: signed, fetched, assembled."""

from typing import TYPE_CHECKING

from muster_agent.update.ports import SlotPorts
from muster_agent.update.table import Cause
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal

if TYPE_CHECKING:
    from muster_agent.update.bundle import Bundle

Fault = tuple[Refusal, str]
_NEVER = float("inf")


class Preparing:
    """One slot's. Times are monotonic seconds."""

    def __init__(self, slot: str, ports: SlotPorts) -> None:
        self._slot = slot
        self._ports = ports
        self._unsigned_until = _NEVER
        self._asked_metadata = False
        self._assembly: Bundle | None = None

    @property
    def unsigned(self) -> bool:
        """It waits for metadata that sign the goal."""
        return self._unsigned_until < _NEVER

    def deadline(self) -> float:
        """When there is something to do next."""
        return 0.0 if self._assembly is not None else self._unsigned_until

    def clear(self, now: float) -> None:
        """Whatever was going on stops."""
        self._assembly = None
        self._unsigned_until = _NEVER
        self._ports.delivery.cancel(self._slot, now)

    def fetch(self, goal: Goal, verdict: Fault | None, now: float) -> bool:
        """Fetch what is signed, for which ``verdict`` is None; else wait. Whether it fetches."""
        if verdict is None:
            self._unsigned_until = _NEVER
            self._ports.delivery.begin(self._slot, goal, now)
            return True
        if self._unsigned_until == _NEVER:
            self._asked_metadata = False
            self._unsigned_until = now + self._ports.metadata_wait_seconds / 2
        return False

    def overdue(self, now: float) -> bool:
        """Metadata that sign the goal should have come by now."""
        if now >= self._unsigned_until and self._ports.metadata_coming():
            self._unsigned_until = now + self._ports.metadata_wait_seconds / 2
        return now >= self._unsigned_until

    def ask_again(self, now: float) -> bool:
        """Ask for metadata once more; False when that was done already."""
        if self._asked_metadata:
            return False
        self._asked_metadata = True
        self._ports.ask_metadata()
        self._unsigned_until = now + self._ports.metadata_wait_seconds / 2
        return True

    def assemble(self, goal: Goal) -> None:
        """Begin to make a bundle of what was fetched."""
        self._assembly = self._ports.install.begin(goal)

    def step(self) -> Cause | Fault | None:
        """A step of that: how it ended, or None."""
        return self._assembly.step() if self._assembly is not None else None

    def progress(self) -> int:
        """Bytes fetched so far."""
        return self._ports.delivery.progress(self._slot).done_bytes
