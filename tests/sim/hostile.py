"""A device that was let in and means harm: it sends whatever it likes, all through the faults.

It stands for a certificate in other hands. It is not approved, so nothing is rolled out to it; what
it sends goes through the hub all the same. The promise it tests is everybody else's: they are
served, and no part of the hub is unwell for it.
"""

import random
from itertools import islice
from typing import TYPE_CHECKING

from fuzz.corpus import Corpus
from muster_protocol.wire import topics
from sim.catalogue import catalogue

if TYPE_CHECKING:
    from sim.world import World

HOSTILE = "evil-1"
SHARE = 0.2
"""Of worlds that have one."""
PAUSE_SECONDS = (5.0, 60.0)
BURST_MESSAGES = 40


class Hostile:
    """Draws from a generator of its own, so that worlds without it are as they were."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/hostile")
        self.present = self._rng.random() < SHARE
        known = [
            (release.sha256, release.model, release.version) for release in catalogue().releases
        ]
        self._stream = Corpus(world.seed, known).messages()

    def begin(self) -> None:
        if self.present:
            self._world.hub.enrol_unapproved(HOSTILE)
            self._later()

    def _later(self) -> None:
        self._world.clock.after(self._rng.uniform(*PAUSE_SECONDS), self._burst)

    def _burst(self) -> None:
        if self._world.faults_over:
            return
        made = list(islice(self._stream, self._rng.randint(1, BURST_MESSAGES)))
        for leaf, payload in made:
            self._world.broker.take(topics.up(HOSTILE, leaf), payload, retain=False)
        self._world.trace.add(HOSTILE, f"sends {len(made)} messages")
        self._world.counts["hostile messages"] += len(made)
        self._later()
