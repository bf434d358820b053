"""Whose doing it is: the features behind a chart that left its limit."""

import math
from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import charts
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.chart_state import Standing
from muster_protocol.signals.rule import StatisticName
from muster_protocol.signals.timeline import Chart
from muster_protocol.signals.vectors import Kind, Layout

Doubles = NDArray[np.float64]
NAMED_MAX = 5
"""Features that one window's chart accuses at most."""
NAMED_SHARE = 0.5
"""Of the largest contribution: others with less are bystanders."""
UNLIKE = "unlike before together with others"
_STATISTICS: dict[Kind, StatisticName] = {
    Kind.LEVEL: "level",
    Kind.SPREAD: "spread",
    Kind.SHARE: "category",
}
BY_CHARTS = frozenset((*_STATISTICS.values(), "relation"))


class Accuser:
    """Names features from a chart's contributions."""

    def __init__(self, baseline: Baseline, layout: Layout) -> None:
        self._baseline = baseline
        self._layout = layout
        self._loadings = np.zeros((baseline.projections, len(baseline)))
        """[projections, features]: each feature's share of a projection."""
        if baseline.normal is not None and self._loadings.size:
            power = np.square(baseline.normal.projections)
            self._loadings[:, layout.numeric] = power / power.sum(axis=1, keepdims=True)

    def accuse(
        self, chart: Chart, e: Doubles, statistic: float, limit: float,
        standing: Mapping[int, Standing], seen: dict[int, Standing],
    ) -> None:  # fmt: skip
        """Add to ``seen`` the features that the chart's ``statistic`` comes from."""
        if chart.file.relations:
            self._relations(chart, e, statistic, limit, standing, seen)
        else:
            self._numbers(chart, e, limit, standing, seen)

    def _numbers(
        self, chart: Chart, e: Doubles, limit: float,
        standing: Mapping[int, Standing], seen: dict[int, Standing],
    ) -> None:  # fmt: skip
        """While nothing stands, those that contribute most; later only what would have passed the
        limit alone joins, or turns round."""
        alone = math.exp(limit) * (1 if chart.file.largest else len(e))
        strong = np.square(e) > alone
        parts = np.zeros(len(self._baseline))
        np.add.at(parts, self._layout.feature, np.maximum(charts.contributions(chart, e), 0.0))
        order = np.argsort(-parts)[:NAMED_MAX].tolist()
        for feature in order:
            if parts[feature] < NAMED_SHARE * parts[order[0]]:
                break
            mine = np.flatnonzero(self._layout.feature == feature)
            leading = int(mine[np.argmax(np.abs(e[mine]))])
            before = standing.get(feature)
            if before is None and standing and not strong[mine].any():
                continue
            value = float(e[leading])
            if feature in seen and abs(seen[feature].value) >= abs(value):
                continue
            entry = self._standing(leading, up=value > 0)
            if before is not None and not strong[leading]:
                entry = Standing(before.statistic, before.direction, before.up)
            entry.value, entry.limit = value, math.exp(limit / 2)
            seen[feature] = entry

    def _standing(self, number: int, *, up: bool) -> Standing:
        kind = Kind(self._layout.kind[number])
        match kind:
            case Kind.LEVEL:
                direction = "higher" if up else "lower"
            case Kind.SPREAD:
                direction = "wider" if up else "narrower"
            case Kind.SHARE:
                place = number - 2 * len(self._layout.numeric)
                feature, bin_ = (int(part[place]) for part in self._layout.shares)
                known = self._baseline.bins[feature].categories
                name = str(known[bin_]) if bin_ < len(known) else "other"
                direction = f"{'more' if up else 'fewer'} {name}"
            case _:
                assert_never(kind)
        return Standing(_STATISTICS[kind], direction, up)

    def _relations(
        self, chart: Chart, e: Doubles, statistic: float, limit: float,
        standing: Mapping[int, Standing], seen: dict[int, Standing],
    ) -> None:  # fmt: skip
        """What moved is named by its own numbers; relations with it break of themselves."""
        if standing or seen:
            return
        parts = np.maximum(charts.contributions(chart, e), 0.0) @ self._loadings
        for feature in np.argsort(-parts)[:NAMED_MAX].tolist():
            if parts[feature] >= NAMED_SHARE * parts.max():
                seen[feature] = Standing(
                    "relation", UNLIKE, up=True,
                    value=math.exp(statistic / 2), limit=math.exp(limit / 2),
                )  # fmt: skip
