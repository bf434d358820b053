"""Numbers of one device, before a release and with it, as one change: what custom metrics compare.

One device is one unit, however many numbers come from it. Pure.
"""

import math
from collections.abc import Iterable

from muster_hub.rollouts.gates.look import Change, Look, Moments, Shifts, of_both
from muster_hub.rollouts.gates.look import changes as changes_of
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
    scored = ((row, _change(metric, *spans)) for row, spans in enumerate(devices))
    return changes_of(((row, change) for row, change in scored if change is not None), stratum)


def _change(metric: CustomMetric, now: Moments, before: Moments) -> Change | None:
    new = _level(metric, now)
    old = _level(metric, before) if metric.past else (0.0, 0.0)
    if new is None or old is None:
        return None
    worse = new[0] - old[0] if metric.better == "lower" else old[0] - new[0]
    count = of_both(now.count, before.count) if metric.past else now.count
    return Change(worse, new[1] + old[1], count)


def _level(metric: CustomMetric, moments: Moments) -> tuple[float, float] | None:
    if not moments.count:
        return None
    if metric.unit == "difference":
        return moments.mean, moments.noise
    if moments.mean <= 0:
        return None
    return math.log(moments.mean), moments.noise / moments.mean**2
