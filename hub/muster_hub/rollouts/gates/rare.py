"""Events too rare for a ratio: proved to be no worse by being proved to be next to none. Pure.

Where nothing ever fails, "at most 1.5 times as often" can't be shown however long one waits: the
healthiest fleet would never pass its gate. There it is enough that the release's own rate is surely
below what matters to anybody.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from muster_hub.rollouts.gates.statistics import Arm

BURST = 4.0
"""Events come in bursts: counts are taken to vary at least so much more than chance alone does."""


@dataclass(frozen=True)
class Rare:
    """The canaries' own rate: what was seen, and what it surely is below."""

    events: float
    exposure: float
    bound: float

    @property
    def rate(self) -> float:
        """Events for each unit of exposure."""
        return self.events / self.exposure


def bound(canary: Arm, chance: float) -> Rare | None:
    """The rate that the canaries' is below but for ``chance``; None before they told anything.

    The upper limit of a Poisson count, widened by how much more devices scatter than one would, and
    by ``BURST`` at least.
    """
    exposure = float(canary.exposure.sum())
    if exposure <= 0:
        return None
    events = float(canary.events.sum())
    most = float(special.gammaincinv(events + 1.0, 1.0 - chance))
    return Rare(events, exposure, max(BURST, _dispersion(canary)) * most / exposure)


def _dispersion(arm: Arm) -> float:
    """How much more the devices' counts vary than those of one common rate; 1 when as much."""
    exposed = arm.exposure > 0
    events, exposure = arm.events[exposed], arm.exposure[exposed]
    if events.sum() <= 0 or len(events) < 2:
        return 1.0
    expected = exposure * (events.sum() / exposure.sum())
    return float(np.sum((events - expected) ** 2 / expected) / (len(events) - 1))
