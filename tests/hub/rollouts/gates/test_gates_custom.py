"""Metrics of the operator's own: plans that name them, and devices scored one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.gates.custom import changes
from muster_hub.rollouts.gates.judge import Evidence, Gate, find, judge
from muster_hub.rollouts.gates.look import Moments, Shifts
from muster_hub.rollouts.gates.plan import CustomMetric, GatePlan
from muster_hub.rollouts.plan import read_plan
from muster_protocol.wire.errors import ProtocolError

SCRAP = CustomMetric(name="scrap rate", margin=1.2)


def moments(*values):
    return Moments(len(values), sum(values), sum(value * value for value in values))


def scored(metric, *devices):
    return changes(metric, devices, np.arange(len(devices), dtype=np.intp))


def test_each_device_is_one_number_however_many_values_it_sent():
    found = scored(SCRAP, (moments(*[0.2] * 50), moments(0.1)), (moments(0.3), moments(0.1, 0.1)))
    assert found.values == pytest.approx([math.log(2), math.log(3)])


def test_a_device_that_cannot_be_scored_is_left_out_with_its_stratum():
    found = scored(
        SCRAP,
        (moments(), moments(1.0)),
        (moments(1.0), moments()),
        (moments(-1.0), moments(1.0)),
        (moments(2.0), moments(1.0)),
    )
    assert found.values == pytest.approx([math.log(2)])
    assert found.stratum.tolist() == [3]
    plain = CustomMetric(name="x", margin=1.0, unit="difference", past=False)
    assert scored(plain, (moments(-1.0), moments())).values.tolist() == [-1.0]


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20), st.floats(0.1, 10))
def test_where_higher_is_better_harm_has_the_other_sign(values, before):
    device = moments(*values), moments(before)
    both = [
        scored(CustomMetric(name="x", margin=1.5, better=better), device)
        for better in ("lower", "higher")
    ]
    assert both[0].values == pytest.approx(-both[1].values)
    assert both[0].noise == pytest.approx(both[1].noise)
    assert both[0].noise >= 0


def test_a_device_noise_is_the_squared_standard_error_of_its_mean():
    values = np.random.default_rng(1).normal(5.0, 1.0, 40)
    metric = CustomMetric(name="x", margin=1.0, unit="difference", past=False)
    found = scored(metric, (moments(*values), Moments()))
    assert found.noise == pytest.approx(values.var(ddof=1) / 40, rel=1e-6)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"custom": [{"name": "x", "margin": 0.9}]}, "tolerates nothing"),
        ({"custom": [{"name": "errors", "margin": 2}]}, "name of another metric"),
        ({"custom": [{"name": "drifting features", "margin": 2}]}, "name of another metric"),
        ({"custom": [{"name": "x", "margin": 2}] * 2}, "name of another metric"),
        ({"custom": [{"name": f"x{n}", "margin": 2} for n in range(5)]}, "length <= 4"),
        ({"custom": [{"name": "X!", "margin": 2}]}, "regex"),
        ({"metrics": []}, "no metric in it could"),
        ({"metrics": [], "custom": [{"name": "x", "margin": 2, "warn": True}]}, "no metric in it"),
        ({"metrics": ["drift"]}, "drift alone holds no wave back"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused(gate, says):
    with pytest.raises(ProtocolError, match=says):
        read_plan({"gate": gate})


def test_a_gate_of_nothing_but_the_operators_own_metric_is_one():
    plan = read_plan({"gate": {"metrics": [], "custom": [{"name": "x", "margin": 2}]}})
    names = {metric.name: metric.part for metric in plan.gate.gate().metrics}
    assert names == {"x": "gate", "drifting features": "warn", "disagreement": "warn"}


def test_drift_as_a_gates_metric_is_no_warning_besides():
    parts = [
        metric.part
        for metric in GatePlan(metrics=("errors", "drift")).gate().metrics
        if metric.name == "drifting features"
    ]
    assert parts == ["stop"]


def test_a_custom_metric_that_nothing_changed_stops_next_to_nobody():
    """Devices differ and wander: their own past, slowly drifting noise, twelve peeks."""
    rng = np.random.default_rng(11)
    metric = CustomMetric(name="x", margin=1.2).metric(0.01)
    gate = Gate(metrics=(metric,), looks=12)
    stops = 0
    for _ in range(200):
        level = rng.normal(0, 0.3, 80)
        wander = 0.05 * rng.normal(size=(80, 12)).cumsum(axis=1)
        seen = np.exp(level[:, None] + wander + 0.1 * rng.normal(size=(80, 12)))
        past = np.exp(level)
        for look in range(1, 13):
            devices = [
                (moments(*seen[n, :look]), moments(past[n] * math.exp(0.05 * rng.normal())))
                for n in range(80)
            ]
            arms = [
                changes(SCRAP, some, np.zeros(len(some), np.intp))
                for some in (devices[:20], devices[20:])
            ]
            evidence = Evidence(
                look=look, data={"x": Shifts(*arms)}, canaries=20, silent=0, device_hours=1,
                soaked=True,
            )  # fmt: skip
            if find(gate, metric, evidence).stop:
                stops += 1
                break
    assert stops <= 6, "1 % is promised, of 200"


def test_what_only_warns_neither_stops_nor_holds_back():
    warns = CustomMetric(name="x", margin=1.2, warn=True).metric(0.01)
    proves = CustomMetric(name="y", margin=1.2).metric(0.01)
    rng = np.random.default_rng(3)

    def arms(harm):
        return Shifts(*(
            changes(
                CustomMetric(name="x", margin=1.2, unit="difference", past=False),
                [(moments(more + 0.02 * rng.normal()), Moments()) for _ in range(count)],
                np.zeros(count, np.intp),
            )
            for more, count in ((harm, 30), (0.0, 60))
        ))  # fmt: skip

    evidence = Evidence(
        look=4, data={"x": arms(2.0), "y": arms(0.0)}, canaries=30, silent=0, device_hours=9,
        soaked=True,
    )  # fmt: skip
    verdict = judge(Gate(metrics=(warns, proves), looks=4), evidence)
    assert verdict.action == "advance"
    assert verdict.reason == "Advance: y shown to be no worse than the margins allow."
    assert list(verdict.warnings) == ["x"]
    silent = judge(
        Gate(metrics=(warns, proves), looks=4),
        Evidence(look=4, data={"y": arms(0.0)}, canaries=30, silent=0, device_hours=9, soaked=True),
    )
    assert (silent.action, silent.warnings) == ("advance", {})
