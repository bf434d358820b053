"""How good alerts of a baseline will be, said before a device runs: arithmetic on its charts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import charts
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.charts import Track
from muster_protocol.signals.rule import Rule
from muster_protocol.signals.timeline import SCALES, Chart, Normal
from muster_protocol.signals.vectors import Layout

Doubles = NDArray[np.float64]
WINDOWS = 3
SHIFTS = np.geomspace(0.05, 50.0, 61)
"""Standard deviations that are tried: a factor of 1.12 apart."""
WANDERS = 2.0
"""The mean of a dozen windows strays so many times farther than that of independent rows."""


@dataclass(frozen=True)
class Outlook:
    """Of one numeric feature."""

    feature: str
    shift: float | None
    """Least lasting shift, in training standard deviations, that ``WINDOWS`` windows show in about
    half of the cases; None when not even the greatest tried one would."""
    wanders: float | None
    """How far, in training standard deviations, an hour's mean (a dozen windows') strays by itself;
    None when no farther than independent rows' mean would."""


def outlooks(baseline: Baseline, rule: Rule | None = None) -> list[Outlook]:
    """One for each numeric feature; empty for a baseline that does not know training in time."""
    normal = baseline.normal
    if normal is None:
        return []
    layout = Layout(baseline)
    rule = rule or Rule()
    limits = charts.limits(normal.charts, rule.chance, rule.chance_of_means)
    watching = list(zip(normal.charts, limits, strict=True))
    found = []
    for place, feature in enumerate(layout.numeric.tolist()):
        stray = float(normal.spreads[-1][place])
        alone = 1 / np.sqrt(SCALES[-1] * normal.file.rows)
        found.append(
            Outlook(
                baseline.features[feature].name,
                _least(normal, watching, place),
                stray if stray > WANDERS * alone else None,
            )
        )
    return found


def _least(normal: Normal, watching: list[tuple[Chart, float]], place: int) -> float | None:
    unit = np.zeros(normal.numbers)
    unit[place] = 1.0
    for shift in SHIFTS.tolist():
        if any(
            _seen(chart, limit, shift * unit)
            for chart, limit in watching
            if not chart.file.relations
        ):
            return float(shift)
    return None


def _seen(chart: Chart, limit: float, shift: Doubles) -> bool:
    """Whether a settled chart is over its limit ``WINDOWS`` windows after the shift; chance adds
    to T² what it adds on a usual day."""
    track = Track.fresh(chart)
    track.windows = 10**6
    usual = 0.0 if chart.file.largest else float(np.exp(chart.file.center))
    for _ in range(WINDOWS):
        e = charts.follow(chart, track, shift)
        if limit < charts.statistic(chart, e) or usual >= np.exp(limit) - np.exp(
            charts.statistic(chart, e)
        ):
            return True
    return False
