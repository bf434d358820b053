"""Placebo canaries: a gate tried on the fleet's own past, where nothing was released. Pure.

Whatever stops there is a false stop. If that happens more often than the metric promises, this
fleet is rougher than the arithmetic allows for, and the metric is made stricter before it is used.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from muster_hub.rollouts.gates.judge import Evidence, Gate, find
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.statistics import Arm, Floats, Index

SURPRISE = 0.05
"""How unlikely the placebo's false stops must be before they count against the metric."""


@dataclass(frozen=True)
class Past:
    """Windows of a quiet time, devices × windows: events, out of how many, and each stratum."""

    events: Floats
    exposure: Floats
    stratum: Index


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """How often a metric stopped canaries that nothing had been done to."""

    metric: Metric
    draws: int
    false_stops: int

    @property
    def surprising(self) -> bool:
        """More false stops than the metric's promise explains."""
        if self.false_stops == 0:
            return False
        chance = special.bdtrc(self.false_stops - 1, self.draws, self.metric.false_stop)
        return bool(chance < SURPRISE)

    def hardened(self) -> Metric:
        """The metric, stricter by as much as it stopped too often here."""
        if not self.surprising:
            return self.metric
        excess = self.false_stops / self.draws / self.metric.false_stop
        return replace(self.metric, false_stop=self.metric.false_stop / excess)

    @property
    def words(self) -> str:
        """The finding as ``muster-hub placebo`` prints it."""
        text = (
            f"On this fleet's own past {self.metric.name} stopped {self.false_stops} of "
            f"{self.draws} canaries that nothing was done to; {self.metric.false_stop:.2g} of them "
            "is promised."
        )
        return f"{text} It is made stricter by that much." if self.surprising else text


def replay(
    gate: Gate, metric: Metric, past: Past, *, canaries: int, draws: int, seed: int
) -> Placebo:
    """Draw canaries ``draws`` times and run the gate over the second part of ``past``.

    The first part, at least half, is what devices are scored against. Raises ValueError when the
    fleet has no controls left or fewer than two windows are known.
    """
    devices, windows = past.events.shape
    if canaries >= devices or windows < 2:
        raise ValueError(
            f"a placebo of {canaries} canaries needs more than the {devices} devices and "
            f"{windows} windows that are known"
        )
    looks = min(gate.looks, windows // 2)
    split = windows - looks
    gate = replace(gate, looks=looks)
    rng = np.random.default_rng(seed)
    before = past.events[:, :split].sum(axis=1), past.exposure[:, :split].sum(axis=1)
    since = past.events[:, split:].cumsum(axis=1), past.exposure[:, split:].cumsum(axis=1)
    stops = 0
    for _ in range(draws):
        chosen = np.zeros(devices, bool)
        chosen[draw(rng, past.stratum, canaries)] = True
        stops += any(
            _stops(gate, metric, look, since, before, past.stratum, chosen)
            for look in range(1, looks + 1)
        )
    return Placebo(metric=metric, draws=draws, false_stops=stops)


def draw(rng: np.random.Generator, stratum: Index, count: int) -> Index:
    """``count`` devices at random, from each stratum in proportion to its size."""
    place = np.empty(len(stratum))
    for item in np.unique(stratum):
        members = rng.permutation(np.flatnonzero(stratum == item))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")[:count]


def _stops(
    gate: Gate,
    metric: Metric,
    look: int,
    since: tuple[Floats, Floats],
    before: tuple[Floats, Floats],
    stratum: Index,
    chosen: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> bool:
    def arm(rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Arm:
        now = (since[0][rows, look - 1], since[1][rows, look - 1])
        return Arm(*now, before[0][rows], before[1][rows], stratum[rows])

    evidence = Evidence(
        look=look, data={metric.name: Rates(arm(chosen), arm(~chosen))},
        canaries=int(chosen.sum()), silent=0, device_hours=0.0, soaked=False,
    )  # fmt: skip
    return find(gate, metric, evidence).stop
