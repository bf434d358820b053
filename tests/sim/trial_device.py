"""A device that runs challengers: what they compare is numbered, and their starts are counted."""

from typing import Any

from muster_agent.challenger.challenger import SURE_SECONDS
from sim.device import Device
from sim.workers import Challenger, Ring

Key = tuple[str, str]
"""A slot, and the manifest of its challenger."""


class TrialDevice(Device):
    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self.compared = self.lost_pairs = self.put_pairs = 0
        """Pairs: all, those that power cuts took, those in windows that the outbox holds."""
        self.unseen: dict[Key, int] = {}
        """Starts of a challenger in a row whose end the agent did not see."""

    def challengers(self, slot: str) -> list[Challenger]:
        """Those that were not told to end."""
        return [
            worker
            for worker in self.workers
            if isinstance(worker, Challenger)
            and worker.slot == slot
            and not (worker.ended or worker.leaving)
        ]

    def challenged(self, challenger: Challenger) -> None:
        key = challenger.slot, challenger.goal.manifest
        self.unseen = {
            known: count for known, count in self.unseen.items() if known[0] != key[0]
        } | {key: self.unseen.get(key, 0) + 1}
        self.world.counts["challengers started"] += 1

    def seen(self, challenger: Challenger) -> None:
        """It ended while the agent looked, or compared for long enough."""
        self.unseen.pop((challenger.slot, challenger.goal.manifest), None)

    def pairs(self, count: int) -> list[int]:
        self.compared += count
        self.world.counts["compared"] += count
        return [0] * count

    def _lose(self, ring: Ring, saved: int) -> None:
        if not ring.pairs:
            super()._lose(ring, saved)
            return
        ring.lost = True
        gone = ring.numbers[max(saved, ring.closed) :]
        del ring.numbers[max(saved, ring.closed) :]
        self.lost_pairs += len(gone)

    def _committed(self) -> None:
        self.put_pairs += sum(window.summary.counts.compared for window in self._pending)
        super()._committed()

    def _end(self) -> None:
        now = self.world.clock.now
        for worker in self.workers:
            if isinstance(worker, Challenger) and worker.ready_at + SURE_SECONDS + 1.0 <= now:
                self.seen(worker)
        super()._end()

    def wipe(self) -> None:
        self.compared = self.lost_pairs = self.put_pairs = 0
        self.unseen.clear()
        super().wipe()
