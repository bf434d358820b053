"""When a hub looks for garbage: what Python does by itself stops every thread, again and again.

A full collection looks at each object that is known of the fleet, 0.1 s with ten thousand devices.
While a version goes out Python begins one every second, since a quarter more objects are there than
after the last, and finds next to nothing: what a hub drops is in no cycle, but for a little. So the
young are looked at as ever, all that has grown old on an hour of its own, and no answer waits.
"""

import gc
import random
import time
from collections.abc import Callable

THRESHOLDS = (10_000, 10, 20)
"""Objects more than at the last look at the young; looks at those until one at the older, and of
these until one at all: two million objects that stayed."""
ALL_SECONDS = 1800.0
_random = random.SystemRandom()


class Garbage:
    """``started`` once all is there that stays; then ``look``, now and then."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._due = float("inf")

    def started(self) -> None:
        """Keep what stays until the end, 200,000 objects of modules and routes, out of it."""
        gc.set_threshold(*THRESHOLDS)
        self._settle()

    def look(self) -> None:
        """Look at everything, when it is time."""
        if self._monotonic() >= self._due:
            gc.unfreeze()
            self._settle()

    def _settle(self) -> None:
        gc.collect()
        gc.freeze()
        self._due = self._monotonic() + ALL_SECONDS * _random.uniform(0.8, 1.2)
