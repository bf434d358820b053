"""Gates of fleets in which next to nothing ever fails."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.gates.judge import Gate, checkpoints, judge
from muster_hub.rollouts.gates.look import Rates
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.metrics.missing_windows import RULE as MISSING
from muster_hub.rollouts.gates.plan import GatePlan
from muster_hub.rollouts.gates.rare import BURST, bound
from muster_hub.rollouts.gates.statistics import Arm
from support.gates_samples import evidence

BOTH = Gate(metrics=(ERRORS, MISSING))


def arm(events, exposure, devices):
    events = np.broadcast_to(np.asarray(events, float), devices).copy()
    rows = np.full(devices, float(exposure))
    none = np.zeros(devices)
    return Arm(events, rows, none, rows, np.zeros(devices, np.intp))


def faultless(look, *, per_window=1000):
    """Nothing failed and no window is missing, on 24 canaries and 66 controls."""
    return {
        "errors": Rates(arm(0, per_window * look, 24), arm(0, per_window * look, 66)),
        "missing windows": Rates(arm(0, look, 24), arm(0, look, 66)),
    }


def judged(look, data):
    return judge(BOTH, evidence(data, look=look, canaries=24, device_hours=2.0 * look))


def test_a_fleet_in_which_nothing_ever_fails_passes_its_gate():
    looks = [look for look in checkpoints(96) if judged(look, faultless(look)).action == "advance"]
    assert looks == [64, 96]
    early = judged(16, faultless(16)).reason
    assert early == (
        "Not enough evidence: missing windows are rare (0 so far): at most 5.3 % is shown, "
        "2 % would do. Need about 53–68 more device-hours."
    )
    between = judged(60, faultless(60)).reason
    assert between.startswith("Evidence looks enough: errors are rare (0 so far)")
    assert between.endswith("judged at look 64.")


def test_few_inferences_do_not_show_that_nothing_fails():
    data = faultless(96, per_window=1)
    assert judged(96, data).action == "wait"
    assert "errors are rare (0 so far)" in judged(96, data).reason


def test_a_release_that_fails_where_nothing_failed_is_stopped_or_held_and_never_passed():
    for look in checkpoints(96):
        data = faultless(look)
        sick = arm(0.01 * 1000 * look, 1000 * look, 24)
        data["errors"] = Rates(sick, data["errors"].control)
        assert judged(look, data).action == "stop"
        zeros = np.zeros(24)
        zeros[3] = 0.05 * 1000 * look
        data["errors"] = Rates(arm(zeros, 1000 * look, 24), data["errors"].control)
        assert judged(look, data).action != "advance", "all of it on one device"


def test_a_plan_may_call_nothing_negligible():
    (errors,) = (metric for metric in GatePlan(negligible_errors=0.0).gate().metrics
                 if metric.name == "errors")  # fmt: skip
    gate = Gate(metrics=(errors,))
    verdict = judge(gate, evidence({"errors": faultless(96)["errors"]}, canaries=24))
    assert verdict.action == "wait"
    assert GatePlan().gate().metrics[0].negligible == ERRORS.negligible


@given(
    events=st.lists(st.integers(0, 50), min_size=2, max_size=30),
    exposure=st.integers(1, 10_000),
    chance=st.floats(0.001, 0.2),
)
def test_the_bound_lies_above_the_rate_and_falls_as_more_is_seen(events, exposure, chance):
    canary = arm(events, exposure, len(events))
    found = bound(canary, chance)
    assert found.bound > found.rate == pytest.approx(sum(events) / (exposure * len(events)))
    twice = bound(arm(events, 2 * exposure, len(events)), chance)
    assert twice.bound == pytest.approx(found.bound / 2)
    assert bound(canary, chance / 2).bound > found.bound


def test_the_bound_holds_for_devices_that_differ_and_fail_in_bursts():
    rng = np.random.default_rng(5)
    rate, broken = 0.0005, 0
    for _ in range(2000):
        own = rate * rng.gamma(1.0, 1.0, 24)
        bursts = rng.poisson(own * 4000 / 3.0)
        canary = arm(rng.poisson(3.0 * bursts), 4000, 24)
        broken += bound(canary, 0.01).bound < rate
    assert broken / 2000 <= 0.01
    assert BURST > 1


def test_before_anything_was_told_there_is_no_bound():
    assert bound(arm(0, 0, 3), 0.01) is None
