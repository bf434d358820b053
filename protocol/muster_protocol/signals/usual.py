"""A window beside what is usual at its hour, in its regime and for so many rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import vectors
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.summary import Summary
from muster_protocol.signals.timeline import Normal
from muster_protocol.signals.vectors import Kind, Layout

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Seen:
    """A window's vector or its relations, as if it were a training window."""

    x: Doubles
    """[numbers], NaN where the window can't tell."""
    widened: Doubles
    """[numbers]: how much wider than in a training window chance makes it."""


class Usual:
    """What training says is usual."""

    def __init__(self, normal: Normal, layout: Layout) -> None:
        self._normal = normal
        self._layout = layout
        self.middles = self._middle(relations=False), self._middle(relations=True)
        """Means of training windows: of the vector, of the relations."""
        self.spreads = normal.spreads[0], self._relation_spread()
        """Their standard deviations."""

    def see(self, summary: Summary, counts: FeatureCounts) -> tuple[Seen, Seen]:
        """The window's vector and its relations."""
        normal, rows = self._normal, self._normal.file.rows
        x, values = self._layout.measure(counts)
        n = np.maximum(values, 1.0)
        spread = self._layout.kind == Kind.SPREAD
        x[spread] += _bias(n[spread]) - _bias(np.array([rows]))
        if normal.profile is not None and summary.closed.quality != "unknown":
            x = x - normal.profile[vectors.hours(np.array([summary.closed.wall_seconds]))[0]]
        if normal.file.context >= 0:
            place = vectors.regime_of(counts, normal.file.context)
            # A regime that training did not know, or that changes: nothing can be said.
            center, ratio = normal.regimes.get(place, (np.full(len(x), np.nan), np.ones(len(x))))
            x = (x - center) / ratio
        widened = np.sqrt(1 - normal.within + normal.within * rows / n)
        return Seen(x, widened), self._relations(counts)

    def _relations(self, counts: FeatureCounts) -> Seen:
        usual, here = _bias(np.array([self._normal.file.rows])), _bias(np.array([counts.rows]))
        share = np.minimum(usual / np.square(self.spreads[1]), 1.0)
        u = vectors.relations(counts) + here - usual
        return Seen(u, np.sqrt(1 - share + share * here / usual))

    def _middle(self, *, relations: bool) -> Doubles:
        for chart in self._normal.charts:
            if chart.file.relations == relations:
                return chart.mean
        return np.zeros(len(self._normal.projections) if relations else self._normal.numbers)

    def _relation_spread(self) -> Doubles:
        for chart in self._normal.charts:
            if chart.file.relations and chart.innovations:
                lasting = np.square(chart.carry * chart.gain)
                return np.asarray(
                    chart.spread * np.sqrt(1 + lasting / np.maximum(1 - chart.carry**2, 0.02))
                )
        return np.ones(len(self._normal.projections))


def _bias(rows: NDArray[np.number]) -> Doubles:
    """How far E log s is below log σ with normal rows; also the variance of log s."""
    return np.asarray(1 / (2 * np.maximum(rows - 1.0, 1.0)))
