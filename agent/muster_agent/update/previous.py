"""Whether a slot's committed model goes, and the one before it comes back."""

import msgspec

from muster_agent.storage.content import ChunksMissing, StoreRefused
from muster_agent.storage.rows import Pointer
from muster_agent.update.demotion import Errors, crash_loop
from muster_agent.update.ports import SlotPorts
from muster_agent.update.table import Cause, State
from muster_agent.update.workers import ChampionDied, Note, Running, SlotWorkers
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Manifest
from muster_protocol.wire.messages import Stamp


def next_pointer(
    pointer: Pointer | None, before: State, cause: Cause, goal: Goal | None, since: Stamp
) -> Pointer | None:
    """What the slot boots after ``cause`` took it from ``before``, with ``goal`` in hand."""
    if cause is Cause.PASSED and goal is not None:
        return _committed(pointer, goal, since)
    if before is State.COMMITTED and cause is Cause.FAULT:
        return _demoted(pointer, since)
    return pointer


def kept(pointer: Pointer | None, in_hand: Goal | None) -> list[Goal]:
    """What a pointer may still need: what it names, and the one before while that is in hand:
    committed, or being repaired. For another version the one before makes room.
    """
    if pointer is None:
        return []
    at_it = in_hand is not None and in_hand.manifest == pointer.goal.manifest
    spare = pointer.previous if at_it else None
    return [pointer.goal, *([spare] if spare is not None else [])]


def _committed(pointer: Pointer | None, goal: Goal, since: Stamp) -> Pointer:
    stamp = msgspec.msgpack.encode(since)
    if pointer is None:
        return Pointer(goal, stamp)
    repaired = pointer.goal.manifest == goal.manifest
    return Pointer(goal, stamp, pointer.previous if repaired else pointer.goal)


def _demoted(pointer: Pointer | None, since: Stamp) -> Pointer:
    """The pointer after a late demotion: to the version before, which has none before it."""
    assert pointer is not None, "what is demoted was committed"
    assert pointer.previous is not None, "nothing is demoted without a version before it"
    return Pointer(pointer.previous, msgspec.msgpack.encode(since))


Evidence = tuple[Refusal, str] | None


class Late:
    """Each method says why, or None: it stays."""

    def __init__(self, ports: SlotPorts) -> None:
        self._ports = ports
        self._errors = Errors()

    def died(self, pointer: Pointer | None, note: ChampionDied) -> Evidence:
        """The champion died: the evidence when that was once too often, else None."""
        listing = self._may_go(pointer)
        if listing is None:
            return None
        return crash_loop(listing, note.refusal, note.detail, note.failures)

    def look(self, pointer: Pointer | None, champion: Running | None) -> Evidence:
        """The champion's errors: the evidence when they are too many, else None."""
        if champion is None or not champion.ready or not self._errors.due(champion.counts):
            return None
        listing = self._may_go(pointer)
        return self._errors.look(listing, champion.counts) if listing is not None else None

    def restore(self, workers: SlotWorkers, pointer: Pointer | None, now: float) -> list[Note]:
        """The champion that ``pointer`` names takes over."""
        goal = workers.goal
        if pointer is None or goal is None or pointer.goal.manifest == goal.manifest:
            return workers.restore(now)
        self._ports.database.checkpoint()
        self._ports.links.point(workers.slot, pointer.goal.manifest)
        beside = self._ports.install.plan(pointer.goal, None) == "beside"
        return workers.demote(pointer.goal, now, beside=beside)

    def _may_go(self, pointer: Pointer | None) -> Manifest | None:
        """The committed version's manifest, if the device can go back to the one before it."""
        previous = pointer.previous if pointer is not None else None
        if pointer is None or previous is None or previous.model != pointer.goal.model:
            return None
        install, verdict = self._ports.install, self._ports.verdict(previous)
        if verdict is not None and verdict[0] is Refusal.UNSIGNED_MANIFEST:
            return None  # It has been taken out of the catalogue.
        try:
            return install.manifest(pointer.goal) if install.installed(previous) else None
        except (ChunksMissing, StoreRefused):
            return None
