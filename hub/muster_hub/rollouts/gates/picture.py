"""What a gate has seen over its looks, as numbers to be drawn: for people, deciding nothing. Pure.

Of each metric at each look: the effect, the interval around it, how many devices told of it, and
the effect that would have stopped the rollout there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from muster_hub.rollouts.gates import words
from muster_hub.rollouts.gates.judge import (
    CONTROLS_MIN,
    Evidence,
    Finding,
    Gate,
    unproved,
)
from muster_hub.rollouts.gates.look import Pairs
from muster_hub.rollouts.gates.metric import Part
from muster_hub.rollouts.gates.statistics import Comparison, harm_evidence, t_quantile

POINTS_MAX = 48
"""Looks kept of a metric; with more, every second of the older half goes."""
HARM_MAX = 5.0
"""Beyond this nothing is drawn; as the log of a ratio it is 148 times."""
HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Point:
    """A metric at a look, on the scale of its harm: above 0 is worse."""

    look: int
    harm: float
    low: float
    high: float
    """An interval that holds the effect with 90 % at this look."""
    stop_at: float | None
    """The harm that would have stopped the rollout here; None: none below ``HARM_MAX`` would."""
    devices: int
    controls: int


@dataclass(frozen=True, kw_only=True)
class MetricPicture:
    """All that was kept of one metric in a wave."""

    metric: str
    unit: words.Unit
    part: Part
    margin: float
    """What is tolerated, on the scale of harm."""
    points: tuple[Point, ...] = ()
    change: str = ""
    """What would change the verdict, in words."""


def after(
    before: Iterable[MetricPicture], gate: Gate, evidence: Evidence, findings: Sequence[Finding]
) -> tuple[MetricPicture, ...]:
    """The pictures with one more look in them."""
    known = {picture.metric: picture for picture in before}
    found = []
    for finding in findings:
        metric = finding.metric
        picture = known.get(metric.name) or MetricPicture(
            metric=metric.name, unit=metric.unit, part=metric.part, margin=metric.margin
        )
        points = picture.points
        if finding.compared is not None:
            points = _thinned((*points, _point(finding, finding.compared, evidence)))
        change = _change(gate, evidence, finding)
        found.append(replace(picture, points=points, change=change))
    return tuple(found)


def _point(finding: Finding, compared: Comparison, evidence: Evidence) -> Point:
    metric = finding.metric
    chance = metric.false_stop
    paired = isinstance(evidence.data.get(metric.name), Pairs)
    if compared.controls < CONTROLS_MIN and not paired:
        chance /= 2
    half = t_quantile(compared.degrees, words.INTERVAL_CHANCE) * math.sqrt(
        compared.variance_cautious
    )
    return Point(
        look=evidence.look,
        harm=compared.harm,
        low=compared.harm - half,
        high=compared.harm + half,
        stop_at=_stop_at(compared, metric.scale, math.log(2 / chance)),
        devices=compared.devices,
        controls=compared.controls,
    )


def _stop_at(compared: Comparison, scale: float, needed: float) -> float | None:
    """The least harm whose evidence would be enough, all else as it is."""
    low, high = 0.0, HARM_MAX
    if harm_evidence(replace(compared, harm=high), scale) < needed:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if harm_evidence(replace(compared, harm=middle), scale) < needed:
            low = middle
        else:
            high = middle
    return high


def _change(gate: Gate, evidence: Evidence, finding: Finding) -> str:
    """What would change what this metric says."""
    metric, compared = finding.metric, finding.compared
    if compared is None:
        return words.nothing_yet([metric.name])
    if finding.stop:
        return (
            "It only warns: nothing is held back by it."
            if metric.part == "warn"
            else "It stops the rollout; what comes later doesn't undo a stop."
        )
    if metric.part != "gate":
        return "It holds nothing back; more harm, or more of the same, would be said."
    if finding.not_worse:
        return "Shown to be no worse than the margin. Harm above the stopping line would stop it."
    return unproved(gate, evidence, finding)


def _thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if len(points) <= POINTS_MAX:
        return points
    half = len(points) // 2
    return points[:half:2] + points[half:]
