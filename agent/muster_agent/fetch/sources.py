"""Which source a chunk is asked for next: the broker, or one of the HTTP sources. Pure.

A source *fails* for a chunk when it has answered without it, or has stayed silent where it could
answer. One that can't be reached has said nothing: it rests for a while, the others are asked, and
it comes again.
"""

import random
from dataclasses import dataclass, field

from muster_agent.fetch.actions import BROKER

REST_SECONDS_MIN = 2.0
REST_SECONDS_MAX = 60.0
"""How long an HTTP source that can't be reached is left alone, doubling from try to try."""
UNREACHED_MAX = 4
"""After so many tries in a row, while the broker can be reached, it counts as failed."""
_JITTER = 0.25
_AWAKE = float("-inf")


@dataclass
class Tried:
    """What is known of one chunk that is still lacking."""

    place: int
    """In the order in which chunks are needed."""
    failed: set[int] = field(default_factory=set)
    altered: list[str] = field(default_factory=list)
    """Sources that sent something else under its name, in words."""
    republished: bool = False
    """The hub was asked to publish it anew because the broker's copy is altered."""
    elsewhere: bool = False
    """The hub says that the broker has no room for it."""
    begged: bool = False
    """The hub was asked to publish it for this once."""
    detail: str = "no source answered"


@dataclass
class _Rest:
    times: int
    until: float


class Sources:
    """Times are monotonic seconds."""

    def __init__(self, http_sources: int, rng: random.Random) -> None:
        self.all = (BROKER, *range(http_sources))
        self.link_up = False
        self.begging = False
        """Whether the broker is worth asking only together with the hub."""
        self.http_first = False
        """Whether the broker was found to lack something."""
        self._rng = rng
        self._resting: dict[int, _Rest] = {}

    def broker_missed(self) -> None:
        """The broker was silent where it should have answered: from now on it is asked last."""
        self.http_first = len(self.all) > 1

    def broker_has_no_room(self) -> None:
        """Nor will it have the others of this bundle: what it is asked for, the hub must send."""
        self.begging = True
        self.broker_missed()

    def next(self, tried: Tried, now: float, *, slow: bool) -> int | None:
        """The source to ask for a chunk now; None when none can be asked at the moment.

        On a slow link HTTP comes first: it goes on in the middle of a chunk after an interruption,
        and what is fetched doesn't stand before acknowledgements.
        """
        order: tuple[int, ...] = self.all
        if (self.http_first or slow) and not tried.republished:
            order = (*self.all[1:], BROKER)
        for source in order:
            if source in tried.failed:
                continue
            if source == BROKER and not self.link_up:
                # Not the hub instead: all devices would turn to it when their broker restarts.
                return None
            if source == BROKER or self._ready(source, now):
                return source
        return None

    def exhausted(self, tried: Tried) -> bool:
        """Every source has failed for the chunk."""
        return tried.failed.issuperset(self.all)

    def free_at(self) -> float:
        """When the first of those that rest can be asked again."""
        return min(
            (rest.until for rest in self._resting.values() if rest.until > _AWAKE),
            default=float("inf"),
        )

    def wake(self, now: float) -> None:
        """Those that have rested long enough may be asked again."""
        for rest in self._resting.values():
            if now >= rest.until:
                rest.until = _AWAKE

    def unreached(self, source: int, now: float) -> bool:
        """An HTTP source could not be reached; whether that has lasted too long.

        Answers that fail together count as one.
        """
        rest = self._resting.setdefault(source, _Rest(0, now))
        if now >= rest.until:
            rest.times += 1
            pause = min(REST_SECONDS_MIN * 2.0 ** (rest.times - 1), REST_SECONDS_MAX)
            rest.until = now + pause * (1 + self._rng.uniform(-_JITTER, _JITTER))
        return self.link_up and rest.times >= UNREACHED_MAX

    def reached(self, source: int) -> None:
        """It answers."""
        self._resting.pop(source, None)

    def network_is_back(self) -> None:
        """What could not be reached before may be reached now."""
        self._resting.clear()

    def _ready(self, source: int, now: float) -> bool:
        rest = self._resting.get(source)
        return rest is None or now >= rest.until
