"""Numbers of one device, before a release and with it, as one change: what custom metrics compare.

One device is one unit, however many numbers come from it. Pure.
"""

import math
from collections.abc import Iterable

import numpy as np

from muster_hub.rollouts.gates.look import Look, Moments, Shifts
from muster_hub.rollouts.gates.plan import CustomMetric
from muster_hub.rollouts.gates.statistics import Changes, Index


def read(metric: CustomMetric, look: Look) -> Shifts | None:
    """What was posted of it; None before both sides have two devices that can be scored."""
    values = look.source.posted(metric.name)
    canary, control = (
        changes(metric, [values[item.device] for item in side], stratum)
        for side, stratum in look.sides()
    )
    enough = min(len(canary.values), len(control.values)) >= 2
    return Shifts(canary, control) if enough else None


def changes(
    metric: CustomMetric, devices: Iterable[tuple[Moments, Moments]], stratum: Index
) -> Changes:
    """How much worse each device is: ``devices`` are (now, before), a row for each of ``stratum``.

    Devices that can't be scored are left out: no value, none before where that is asked for, or
    one that has no logarithm where ratios are.
    """
    values, noise, kept = [], [], []
    for row, (now, before) in enumerate(devices):
        scored = [_level(metric, now), _level(metric, before) if metric.past else (0.0, 0.0)]
        levels = [item for item in scored if item is not None]
        if len(levels) < 2:
            continue
        (level, spread), (old_level, old_spread) = levels
        values.append(level - old_level if metric.better == "lower" else old_level - level)
        noise.append(spread + old_spread)
        kept.append(row)
    mean = float(np.mean(noise)) if noise else 0.0
    return Changes(np.array(values, np.float64), stratum[np.array(kept, np.intp)], mean)


def _level(metric: CustomMetric, moments: Moments) -> tuple[float, float] | None:
    if not moments.count:
        return None
    if metric.unit == "difference":
        return moments.mean, moments.noise
    if moments.mean <= 0:
        return None
    return math.log(moments.mean), moments.noise / moments.mean**2
