"""What a gate shows of its looks: the same effects that it judges by, and where it would stop."""

from dataclasses import replace

import pytest

from muster_hub.rollouts.gates import picture
from muster_hub.rollouts.gates.judge import Gate, find, judge
from muster_hub.rollouts.gates.metric import Metric
from muster_hub.rollouts.gates.picture import POINTS_MAX
from support.gates_samples import evidence, rates

METRIC = Metric(name="errors", scale=0.5, margin=0.405)
GATE = Gate(metrics=(METRIC,), looks=96)


def looked(count: int, harm: float = 1.0) -> tuple:
    pictures: tuple = ()
    for look in range(1, count + 1):
        seen = evidence({"errors": rates(factor=harm, hours=look)}, look=look)
        pictures = picture.after(pictures, GATE, seen, judge(GATE, seen).findings)
    return pictures


def test_each_look_adds_the_effect_that_was_judged_by_and_its_interval() -> None:
    (errors,) = looked(4)
    assert [point.look for point in errors.points] == [1, 2, 3, 4]
    assert all(point.low < point.harm < point.high for point in errors.points)
    assert errors.margin == METRIC.margin
    assert errors.points[-1].stop_at < errors.points[0].stop_at, "more is known"


@pytest.mark.parametrize("harm", [1.0, 1.4, 3.0])
def test_harm_beyond_the_stopping_line_is_what_stops(harm: float) -> None:
    seen = evidence({"errors": rates(factor=harm, hours=8)}, look=8)
    finding = find(GATE, METRIC, seen)
    (errors,) = picture.after((), GATE, seen, [finding])
    (point,) = errors.points
    assert (point.harm >= point.stop_at) == finding.stop_average


def test_many_looks_are_thinned_and_the_latest_kept() -> None:
    (errors,) = looked(96)
    assert len(errors.points) <= POINTS_MAX
    assert [point.look for point in errors.points[-10:]] == list(range(87, 97))


def test_what_would_change_the_verdict_is_said_for_each_metric() -> None:
    seen = evidence({"errors": rates(hours=3)}, look=3)
    finding = find(GATE, METRIC, seen)
    said = {
        part: picture.after((), GATE, seen, [replace(finding, metric=replace(METRIC, part=part))])
        for part in ("gate", "stop", "warn")
    }
    assert "more device-hours" in said["gate"][0].change or "judged at" in said["gate"][0].change
    assert said["warn"][0].change.startswith("It holds nothing back")
    nothing = picture.after((), GATE, replace(seen, data={}), [replace(finding, compared=None)])
    assert "nothing received yet" in nothing[0].change
    assert nothing[0].points == ()
