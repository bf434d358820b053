"""The challengers of all slots, as the supervisor sees them."""

from collections.abc import Mapping
from typing import assert_never

from muster_agent.challenger.challenger import KEY_SUFFIX, Challenger, ChallengerPorts
from muster_agent.update.runner import SlotRunner
from muster_agent.update.table import State
from muster_agent.worker import events as worker
from muster_protocol.wire import messages
from muster_protocol.wire.directive import Directive
from muster_protocol.wire.errors import Refusal

_FETCHING = frozenset({State.FETCHING, State.VERIFYING})
_AT_REST = frozenset({State.IDLE, State.COMMITTED, State.FAILED})


def _needs_room(runner: SlotRunner) -> bool:
    """An update is under way, or failed for the memory that a challenger takes, too."""
    short = runner.state is State.FAILED and runner.row.refusal == Refusal.NO_MEMORY
    return runner.state not in _AT_REST or short


class Challengers:
    """The challengers of all slots."""

    def __init__(self, ports: ChallengerPorts) -> None:
        self._ports = ports
        self._known: dict[str, Challenger] = {}

    def want(self, directive: Directive, now: float) -> None:
        """What the directive says; an empty one changes nothing that runs."""
        if not directive.slots:
            return
        named = {name: slot.challenger for name, slot in directive.slots.items()}
        for slot in self._known.keys() | named.keys():
            self._of(slot).want(named.get(slot), now)
            if named.get(slot) is None:
                self._of(slot).unwanted()

    def tick(self, runners: Mapping[str, SlotRunner], now: float) -> None:
        """Give each slot's challenger its turn; those of slots that fetch wait."""
        fetching = [name for name, runner in runners.items() if runner.state in _FETCHING]
        for slot, challenger in self._known.items():
            runner = runners.get(slot)
            way = ""
            if runner is not None and _needs_room(runner):
                way = "the slot's own update"
            elif fetching and challenger.fetching:
                way = f"the download for slot {fetching[0]}"
            champion = runner.workers.serving if runner is not None else None
            challenger.tick(champion, way, now)

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        return min((item.deadline() for item in self._known.values()), default=float("inf"))

    def handle(self, event: worker.WorkerEvent, now: float) -> None:
        """Pass a worker's event to the challenger that it belongs to, if any."""
        known = self._known.values()
        challenger = next((item for item in known if item.knows(event.worker_id)), None)
        if challenger is None:
            return
        match event:
            case worker.Ready(_, facts):
                challenger.on_ready(facts.computed_by, now)
            case worker.Heartbeat(worker_id, counters):
                challenger.on_counts(worker_id, counters.inferences, counters.errors)
            case worker.Failed(worker_id, refusal, detail):
                challenger.on_end(worker_id, refusal, detail, now)
            case worker.Exited(worker_id, returncode, detail):
                reason = detail or worker.ending(returncode)
                challenger.on_end(worker_id, Refusal.WORKER_DIED, reason, now)
            case worker.Drained():
                pass
            case _:
                assert_never(event)

    def metadata_came(self, now: float) -> None:
        """What was refused as unsigned may be signed now."""
        for item in self._known.values():
            item.metadata_came(now)

    def fetched(self, key: str, refusal: tuple[Refusal, str] | None, now: float) -> bool:
        """False when the delivery's key is no challenger's."""
        if not key.endswith(KEY_SUFFIX):
            return False
        self._known[key.removesuffix(KEY_SUFFIX)].fetched(refusal, now)
        return True

    def needs(self) -> tuple[set[str], set[str]]:
        """Manifests the store must keep, and those whose chunks it must keep."""
        keep: set[str] = set()
        fetching: set[str] = set()
        for item in self._known.values():
            keep |= item.needs()
            if item.fetching and item.goal is not None:
                fetching.add(item.goal.manifest)
        return keep, fetching

    def stop(self) -> None:
        """End every challenger's worker."""
        for item in self._known.values():
            item.stop()

    def idle(self) -> bool:
        """No worker process is left."""
        return all(item.idle() for item in self._known.values())

    def report(self, slot: str) -> messages.Challenger | None:
        """The challenger's part of a slot's report; None without one."""
        return self._known[slot].report() if slot in self._known else None

    def _of(self, slot: str) -> Challenger:
        if slot not in self._known:
            self._known[slot] = Challenger(slot, self._ports)
        return self._known[slot]
