"""Which rows are taken, and how many now. Pure."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.wire.sampling import Stratum

DAY_SECONDS = 86_400.0
BURST_SHARE = 1 / 24
"""Of a day's rows that may be taken at once: an hour's."""


@dataclass
class RowPace:
    """Spreads a day's rows over the day: a token bucket that holds an hour's."""

    rows_per_day: int
    at: float
    """Monotonic seconds at which ``tokens`` were counted."""
    tokens: float = 1.0

    def allowed(self, now: float) -> int:
        """Rows that may be taken now."""
        most = max(1.0, self.rows_per_day * BURST_SHARE)
        gained = max(now - self.at, 0.0) * self.rows_per_day / DAY_SECONDS
        self.tokens, self.at = min(self.tokens + gained, most), now
        return int(self.tokens)

    def take(self, rows: int) -> None:
        """So many were taken."""
        self.tokens -= rows


def full(rows_per_day: int, now: float) -> RowPace:
    """A bucket that begins full."""
    return RowPace(rows_per_day, now, max(1.0, rows_per_day * BURST_SHARE))


@dataclass(frozen=True)
class Rows:
    """What strata go by: which rows may be taken, and what the model said of each."""

    good: NDArray[np.bool_]
    """[rows]: the model itself answered."""
    confidence: NDArray[np.float64] | None = None
    """[rows]: best score; None: it is no classifier."""
    classes: NDArray[np.int64] | None = None
    """[rows]: predicted class."""
    drifting: bool = False


def pick(
    rows: Rows,
    strata: Sequence[Stratum],
    wanted: int,
    *,
    confidence_below: float,
    taken: Mapping[int, int],
    rng: random.Random,
) -> list[tuple[int, Stratum]]:
    """At most ``wanted`` rows, each once, as evenly from the strata as these have rows.

    ``taken`` counts earlier rows by class.
    """
    queues = [(stratum, _queue(rows, stratum, confidence_below, taken, rng)) for stratum in strata]
    chosen: dict[int, Stratum] = {}
    while queues and len(chosen) < wanted:
        left = []
        for stratum, queue in queues:
            place = next((row for row in queue if row not in chosen), None)
            if place is None:
                continue
            left.append((stratum, queue))
            if len(chosen) < wanted:
                chosen[place] = stratum
        queues = left
    return sorted(chosen.items())


def _queue(
    rows: Rows,
    stratum: Stratum,
    confidence_below: float,
    taken: Mapping[int, int],
    rng: random.Random,
) -> Iterator[int]:
    """A stratum's rows in the order in which they are to be taken."""
    chosen = rows.good
    if stratum == "low_confidence":
        if rows.confidence is None:
            return iter(())
        chosen = chosen & (rows.confidence < confidence_below)
    elif stratum == "drifting" and not rows.drifting:
        return iter(())
    places = [int(place) for place in np.flatnonzero(chosen)]
    rng.shuffle(places)
    if stratum == "by_class":
        return _evened(places, rows.classes, taken)
    return iter(places)


def _evened(
    places: Sequence[int], classes: NDArray[np.int64] | None, taken: Mapping[int, int]
) -> Iterator[int]:
    """Always next a row of the class of which fewest were taken."""
    if classes is None:
        return
    counts = Counter(taken)
    by_class: dict[int, list[int]] = {}
    for place in places:
        by_class.setdefault(int(classes[place]), []).append(place)
    while by_class:
        rarest = min(by_class, key=lambda name: (counts[name], name))
        yield by_class[rarest].pop()
        counts[rarest] += 1
        if not by_class[rarest]:
            del by_class[rarest]
