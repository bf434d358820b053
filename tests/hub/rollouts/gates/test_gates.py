"""Gates: when they stop, when they let a rollout advance, and what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_hub.rollouts.gates.installs import Installs
from muster_hub.rollouts.gates.judge import Gate, checkpoints, find, judge
from muster_hub.rollouts.gates.look import Pairs, Rates, Shifts
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.metrics.missing_windows import RULE as MISSING
from muster_hub.rollouts.gates.metrics.p95_latency import RULE as LATENCY
from muster_hub.rollouts.gates.statistics import Changes
from muster_hub.rollouts.shadows import ACCURACY
from support.gates_samples import any_arm, arm, evidence, rates

ERRORS_ONLY = Gate(metrics=(ERRORS,))


def changes(mean, devices, seed=3, sd=0.05):
    return Changes(
        np.random.default_rng(seed).normal(mean, sd, devices),
        np.zeros(devices, np.intp),
        noise=sd**2 / 2,
        count=np.full(devices, 8.0),
    )


@pytest.mark.parametrize(
    ("looks", "points"),
    [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 5)), (96, (1, 2, 4, 8, 16, 32, 64, 96))],
)
def test_outliers_and_advancing_are_judged_at_doubling_looks_and_the_last(looks, points):
    assert checkpoints(looks) == points


@pytest.mark.parametrize(
    ("look", "action"), [(63, "wait"), (64, "advance"), (65, "wait"), (95, "wait"), (96, "advance")]
)
def test_what_is_proved_lets_a_rollout_advance_at_those_looks_alone(look, action):
    fleet = rates(canaries=40, spread=0.2, hours=96)
    verdict = judge(ERRORS_ONLY, evidence({"errors": fleet}, canaries=40, look=look))
    assert verdict.action == action


def test_outliers_stop_at_those_looks_alone():
    fleet = rates(spread=0.2)
    events = fleet.canary.events.copy()
    events[:10] *= 10
    data = {"errors": replace(fleet, canary=replace(fleet.canary, events=events))}
    stops = [
        find(ERRORS_ONLY, ERRORS, evidence(data, look=look)).stop_outliers for look in (31, 32, 33)
    ]
    assert stops == [False, True, False]


def test_a_doubling_of_errors_stops_and_says_how_sure_that_is():
    verdict = judge(ERRORS_ONLY, evidence({"errors": rates(factor=2.0)}, look=7))
    assert verdict.action == "stop"
    assert verdict.reason.startswith("Stopped: errors ")
    assert "chance of a false stop about 1 %" in verdict.reason


def test_canaries_like_the_controls_advance_when_enough_is_known():
    fleet = rates(canaries=40, spread=0.2, hours=96)
    verdict = judge(ERRORS_ONLY, evidence({"errors": fleet}, canaries=40))
    assert verdict.action == "advance"
    assert "errors" in verdict.reason


def test_the_metric_at_fault_is_named():
    data = {
        "errors": rates(seed=1),
        "missing windows": rates(seed=2, factor=6.0),
        "p95 latency": Shifts(changes(0, 20), changes(0, 100, seed=4)),
    }
    verdict = judge(Gate(metrics=(ERRORS, MISSING, LATENCY)), evidence(data, look=9))
    assert verdict.action == "stop"
    assert "missing windows" in verdict.reason


def test_canaries_that_hide_their_errors_by_going_silent_are_stopped_by_their_silence():
    rng = np.random.default_rng(8)
    canary, control = arm(rng, 20, per_hour=4, spread=0.1), arm(rng, 100, per_hour=4, spread=0.1)
    lost = replace(canary, events=np.floor(canary.exposure * 0.9))
    verdict = judge(
        Gate(metrics=(ERRORS, MISSING)),
        evidence({"errors": rates(), "missing windows": Rates(lost, control)}, look=20),
    )
    assert verdict.action == "stop"
    assert "missing windows" in verdict.reason


def test_a_fifth_of_the_canaries_failing_badly_stops_the_rollout():
    fleet = rates(spread=0.2)
    events = fleet.canary.events.copy()
    events[:4] *= 10
    verdict = judge(
        ERRORS_ONLY,
        evidence({"errors": replace(fleet, canary=replace(fleet.canary, events=events))}),
    )
    assert verdict.action == "stop"
    assert "outliers" in verdict.reason


def test_silent_canaries_blind_the_gate():
    fleet = rates(canaries=40, spread=0.2, hours=96)
    verdict = judge(ERRORS_ONLY, evidence({"errors": fleet}, canaries=20, silent=7))
    assert (verdict.action, verdict.reason) == (
        "wait",
        "Blind: 7 of 20 devices silent; can't advance.",
    )


def test_a_wave_that_has_not_lasted_long_enough_waits_although_it_is_proved():
    fleet = rates(canaries=40, spread=0.2, hours=96)
    verdict = judge(ERRORS_ONLY, evidence({"errors": fleet}, canaries=40, soaked=False))
    assert verdict.action == "wait"
    assert "lasted" in verdict.reason


def test_a_canary_of_five_says_that_it_cannot_show_a_doubling():
    verdict = judge(ERRORS_ONLY, evidence({"errors": rates(canaries=5)}, canaries=5))
    assert verdict.action == "wait"
    assert "5 devices in this wave; that few can't show a doubling" in verdict.reason


def test_too_little_time_is_said_with_how_many_device_hours_would_settle_it():
    fleet = rates(canaries=60, controls=200, spread=0.0, hours=1, per_hour=60)
    verdict = judge(
        ERRORS_ONLY, evidence({"errors": fleet}, look=4, canaries=60, device_hours=60.0)
    )
    assert verdict.action == "wait"
    assert verdict.reason.startswith("Not enough evidence: errors ")
    assert verdict.reason.endswith("more device-hours.")


def test_devices_too_different_are_said_with_how_many_would_settle_it():
    rng = np.random.default_rng(1)
    fleet = rates(hours=240, spread=0.0)
    wild = [
        replace(item, events=item.events * np.exp(rng.normal(0, 1.0, len(item.events))))
        for item in (fleet.canary, fleet.control)
    ]
    verdict = judge(ERRORS_ONLY, evidence({"errors": Rates(*wild)}))
    assert verdict.action == "wait"
    assert "More time won't settle this" in verdict.reason
    assert "device differences dominate; need about" in verdict.reason


def test_no_data_about_a_metric_is_no_proof_that_it_is_well():
    verdict = judge(Gate(metrics=(ERRORS, LATENCY)), evidence({"errors": rates(canaries=40)}))
    assert verdict.action == "wait"
    assert "nothing received yet about p95 latency" in verdict.reason


def test_failing_installs_stop_before_anything_else_is_looked_at():
    installs = Installs((True, True, True))
    verdict = judge(ERRORS_ONLY, evidence({}, look=1, installs=installs))
    assert verdict.action == "stop"
    assert verdict.reason == "Stopped: 3 of the first 3 installs failed."


def test_accuracy_is_judged_on_shadow_pairs_in_points():
    gate = Gate(metrics=(ACCURACY,))
    worse = judge(gate, evidence({"accuracy loss": Pairs(changes(0.03, 20, sd=0.01))}, look=5))
    assert worse.action == "stop"
    assert "points" in worse.reason
    same = judge(gate, evidence({"accuracy loss": Pairs(changes(0.0, 40, sd=0.01))}, canaries=40))
    assert same.action == "advance"


@pytest.mark.parametrize(
    ("noise_share", "said"),
    [(0.95, "more device-hours"), (0.0, "More time won't settle this")],
)
def test_latencies_that_wander_need_time_and_devices_that_differ_need_more_devices(
    noise_share, said
):
    sd = 0.3
    data = Shifts(
        replace(changes(0, 20, sd=sd), noise=noise_share * sd**2),
        replace(changes(0, 100, seed=4, sd=sd), noise=noise_share * sd**2),
    )
    verdict = judge(Gate(metrics=(LATENCY,)), evidence({"p95 latency": data}))
    assert verdict.action == "wait"
    assert said in verdict.reason


def test_with_few_controls_the_same_evidence_must_be_twice_as_strong():
    mild = [
        find(
            ERRORS_ONLY, ERRORS, evidence({"errors": rates(seed, factor=1.2, controls=49)}, look=3)
        )
        for seed in range(60)
    ]
    between = [item for item in mild if math.log(200) <= item.log_e < math.log(400)]
    assert between
    assert not any(item.stop_average for item in between)
    assert all(item.stop_average for item in mild if item.log_e >= math.log(400))


@given(any_arm(), any_arm(low=2), st.integers(1, 96), st.integers(1, 40), st.data())
def test_whatever_is_received_the_gate_gives_a_reason_and_never_advances_unproved(
    canary, control, look, canaries, data
):
    silent = data.draw(st.integers(0, canaries))
    soaked = data.draw(st.booleans())
    verdict = judge(
        ERRORS_ONLY,
        evidence(
            {"errors": Rates(canary, control)},
            look=look, canaries=canaries, silent=silent, soaked=soaked, device_hours=10.0,
        ),
    )  # fmt: skip
    assert verdict.reason.endswith(".")
    assert "nan" not in verdict.reason
    if verdict.action == "advance":
        assert soaked
        assert silent <= 0.2 * canaries
        assert canaries >= 20
        assert look in checkpoints(96)
        assert all(finding.not_worse and not finding.stop for finding in verdict.findings)


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_more_errors_never_turn_a_stop_into_an_advance(seed):
    fleet = rates(seed=seed, canaries=40, factor=2.5)
    worse = replace(fleet, canary=replace(fleet.canary, events=fleet.canary.events * 2))
    assert judge(ERRORS_ONLY, evidence({"errors": fleet}, canaries=40)).action != "advance"
    assert judge(ERRORS_ONLY, evidence({"errors": worse}, canaries=40)).action == "stop"
