"""What a slot's update acts on, and how it tells the hub."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from muster_agent.storage.current import CurrentLinks
from muster_agent.storage.rows import JournalRow
from muster_agent.storage.state import StateDatabase as Database
from muster_agent.update.bundle import BundleInstall
from muster_agent.update.table import parse
from muster_protocol.wire import messages
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal


class Permits(Protocol):
    """What a swap waits for (``permit.SwapPermits``); empty: it may begin."""

    def in_the_way(self, slot: str) -> str:
        """On the device itself."""
        ...

    def waits_for(self, slot: str, goal: Goal, generation: int, now: float) -> str:
        """There, or at the hub, which is asked when that is due."""
        ...

    def look_seconds(self, slot: str) -> float:
        """Until it is worth to ask either again."""
        ...


class Progress(NamedTuple):
    """How far a slot's bundle has come."""

    done_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0
    """In which bytes came in."""
    source: str = ""
    """Where the last chunk came from; empty: from nowhere yet."""


class Delivery(Protocol):
    """Fetches bundles into the store; the outcome reaches the slot as ``fetched`` or ``fault``."""

    def begin(self, slot: str, goal: Goal, now: float) -> None:
        """Fetch what a goal's bundle lacks, after those that were asked for before."""
        ...

    def cancel(self, slot: str, now: float) -> None:
        """Fetch nothing more for this slot."""
        ...

    def progress(self, slot: str) -> Progress:
        """How far the slot's bundle has come, as far as known."""
        ...


@dataclass(frozen=True)
class SlotPorts:
    """What a slot's runner acts on."""

    database: Database
    delivery: Delivery
    install: BundleInstall
    links: CurrentLinks
    permits: Permits
    stamp: Callable[[], messages.Stamp]
    report: Callable[[messages.Event], None]
    """Put an event into the outbox; joins an open transaction."""
    verdict: Callable[[Goal], tuple[Refusal, str] | None]
    """Why the catalogue doesn't allow a goal, or None when release keys signed it."""
    metadata_wait_seconds: float
    """How long a goal may be ahead of the metadata that sign it."""
    ask_metadata: Callable[[], None]
    """Have the broker send again what it holds: the newest may have been overtaken or lost."""
    metadata_coming: Callable[[], bool]
    """Whether metadata may still be under way: on a slow link they take their time."""
    changed: Callable[[], None]
    """A step was made: a report is due, and the store may be swept."""
    settled: Callable[[], None]
    """The slot is at rest and can take the directive's goal again if that is another."""
    rng: random.Random
    retry_seconds: tuple[float, float]
    """First and longest pause before a goal refused for a passing reason is tried again."""
    shifted: Callable[[str, Goal, Goal], str]
    """Evidence that a slot's candidate answers otherwise than promised while its champion did not;
    empty when there is none."""


def event(
    kind: Literal["update", "refused", "rolled_back", "worker_died", "note"],
    slot: str,
    row: JournalRow,
    at: messages.Stamp,
    **values: float,
) -> messages.Event:
    """A step of a slot's update as the hub hears of it."""
    goal = row.goal
    return messages.Event(
        kind=kind,
        at=at,
        slot=slot,
        model=goal.model if goal else "",
        version=goal.version if goal else "",
        manifest=goal.manifest if goal else "",
        generation=row.generation,
        state=parse(row.state).value,
        refusal=row.refusal,
        detail=row.detail,
        values=values,
    )
