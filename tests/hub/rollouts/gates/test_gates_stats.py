"""The arithmetic of gates: evidence that stays honest at every look, whatever the fleet shows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from muster_hub.rollouts.gates import statistics
from muster_hub.rollouts.gates.installs import Installs, design_effect, judge_installs, log_evidence
from muster_hub.rollouts.gates.statistics import Arm, Changes, Comparison
from support.gates_samples import any_arm, arm, rates

BLANK = Comparison(
    harm=0.0, variance=0.01, variance_cautious=0.01, variance_lasting=0.005, degrees=1e6,
    devices=20, devices_effective=20.0, controls=100, outliers=0, outlier_chance=1.0,
)  # fmt: skip

EQUAL = np.full(100, 24.0)


@pytest.mark.parametrize(("variance", "scale"), [(0.01, 0.5), (0.2, 0.5), (1.0, 0.2), (4.0, 0.03)])
def test_evidence_of_harm_is_worth_one_on_average_when_there_is_none(variance, scale):
    z = np.linspace(-36, 36, 24_001)
    log_e = [
        statistics.harm_evidence(
            replace(BLANK, harm=float(value) * math.sqrt(variance), variance=variance), scale
        )
        for value in z
    ]
    mean = np.trapezoid(np.exp(log_e + stats.norm.logpdf(z)), z)
    assert mean == pytest.approx(1.0, abs=2e-3)


@given(st.floats(-5, 5), st.floats(0.001, 5), st.floats(1e-4, 10), st.floats(3, 200))
def test_more_harm_is_more_evidence_of_harm(harm, more, variance, degrees):
    item = replace(BLANK, harm=harm, variance=variance, degrees=degrees)
    worse = replace(item, harm=harm + more)
    assert statistics.harm_evidence(worse, 0.5) >= statistics.harm_evidence(item, 0.5)


@given(st.floats(-30, 30), st.floats(3, 500))
def test_a_t_value_keeps_its_tail_as_a_z_value(t, degrees):
    z = statistics.t_to_z(t, degrees)
    assert abs(z) <= abs(t) + 1e-9
    assert stats.norm.sf(abs(z)) == pytest.approx(stats.t.sf(abs(t), degrees), rel=1e-6)


@given(st.integers(1, 30), st.integers(20, 150), st.data())
def test_the_chance_of_outliers_is_that_of_exchangeable_devices(canaries, controls, data):
    above = data.draw(st.integers(0, canaries))
    control = np.arange(controls, dtype=float)
    canary = np.where(np.arange(canaries) < above, controls + 1.0, -1.0)
    count, chance = statistics._outliers(canary, control)
    rank = max(1, math.floor(0.05 * (controls + 1)))
    exact = stats.betabinom.sf(above - 1, canaries, rank, controls + 1 - rank) if above else 1.0
    assert count == above
    assert chance == pytest.approx(exact, rel=1e-6)


@given(any_arm(), any_arm(low=2))
def test_any_counts_compare_or_say_that_there_is_nothing_yet(canary, control):
    compared = statistics.compare_rates(canary, control)
    if compared is None:
        assert (canary.exposure > 0).sum() == 0 or (control.exposure > 0).sum() < 2
        return
    assert math.isfinite(compared.harm)
    assert 0 < compared.variance < math.inf
    assert compared.variance_cautious >= compared.variance
    assert 1 <= compared.devices_effective <= compared.devices + 1e-9
    assert 0 <= compared.outlier_chance <= 1


@given(any_arm(), any_arm(low=2), st.randoms(use_true_random=False))
def test_the_order_of_devices_does_not_matter(canary, control, random):
    def shuffled(arm: Arm) -> Arm:
        order = list(range(len(arm.events)))
        random.shuffle(order)
        return Arm(*(getattr(arm, name)[order] for name in Arm.__dataclass_fields__))

    first = statistics.compare_rates(canary, control)
    second = statistics.compare_rates(shuffled(canary), shuffled(control))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert second.harm == pytest.approx(first.harm, abs=1e-9)
        assert second.variance == pytest.approx(first.variance, rel=1e-6)


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_windows_that_are_late_leave_the_comparison_where_it_was_on_average(seed, kept):
    rng = np.random.default_rng(seed)
    whole = arm(rng, 20, spread=0.0)
    late = replace(whole, events=whole.events * kept, exposure=whole.exposure * kept)
    control = arm(rng, 100, spread=0.0)
    full = statistics.compare_rates(whole, control)
    part = statistics.compare_rates(late, control)
    assert full is not None
    assert part is not None
    assert part.harm == pytest.approx(full.harm, abs=0.02)


def test_a_shock_to_the_whole_fleet_is_no_harm():
    shaken = rates(factor=1.0)
    canary = replace(shaken.canary, events=shaken.canary.events * 3)
    control = replace(shaken.control, events=shaken.control.events * 3)
    compared = statistics.compare_rates(canary, control)
    assert compared is not None
    assert abs(compared.harm) < 0.1


def test_a_shock_to_one_site_is_no_harm_to_canaries_that_mostly_live_there():
    rng = np.random.default_rng(5)
    canary, control = arm(rng, 20, spread=0.1), arm(rng, 100, spread=0.1)
    canary = replace(canary, stratum=np.where(np.arange(20) < 15, 0, 1))
    control = replace(control, stratum=np.where(np.arange(100) < 20, 0, 1))
    shaken = [
        replace(item, events=np.where(item.stratum == 0, item.events * 3, item.events))
        for item in (canary, control)
    ]
    compared = statistics.compare_rates(*shaken)
    assert compared is not None
    assert abs(compared.harm) < 0.1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_control_weights_give_the_canarys_mix_and_keep_the_controls_size(strata, data):
    control = np.array(strata)
    canary = np.array(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=20)))
    size = np.ones(len(control))
    weight = statistics.stratum_weights(canary, np.ones(len(canary)), control, size)
    assert (weight >= 0).all()
    assert weight @ size == pytest.approx(size.sum(), rel=1e-9)


def test_devices_that_differ_more_make_the_same_ratio_less_certain():
    alike, unlike = (
        statistics.compare_rates(
            replace(rates(spread=0.0).canary, past_events=np.full(20, 96.0)),
            replace(
                rates(spread=0.0).control,
                past_events=np.full(100, 96.0),
                events=96.0 * np.exp(np.random.default_rng(3).normal(0, sd, 100)),
            ),
        )
        for sd in (0.05, 0.8)
    )
    assert alike is not None
    assert unlike is not None
    assert unlike.variance > 2 * alike.variance
    assert unlike.variance_lasting > alike.variance_lasting


def test_changes_are_compared_by_device():
    rng = np.random.default_rng(2)
    control = Changes(rng.normal(0, 0.05, 100), np.zeros(100, np.intp), 0.001, EQUAL[:100])
    canary = Changes(rng.normal(0.2, 0.05, 20), np.zeros(20, np.intp), 0.00005, EQUAL[:20])
    compared = statistics.compare_changes(canary, control)
    assert compared is not None
    assert compared.harm == pytest.approx(0.2, abs=0.05)
    assert statistics.harm_evidence(compared, 0.2) > math.log(1000)
    assert compared.outliers >= 15


def test_pairs_need_no_controls():
    canary = Changes(
        np.random.default_rng(2).normal(0.03, 0.01, 20), np.zeros(20, np.intp), 0.00005, EQUAL[:20]
    )
    compared = statistics.compare_pairs(canary)
    assert compared is not None
    assert compared.controls == 0
    assert statistics.harm_evidence(compared, 0.03) > math.log(200)
    alone = Changes(np.zeros(1), np.zeros(1, np.intp), 0.0, EQUAL[:1])
    assert statistics.compare_pairs(alone) is None


@pytest.mark.parametrize("done", [1, 20, 300])
def test_evidence_of_failing_installs_is_worth_one_on_average_at_the_normal_rate(done):
    failures = np.arange(done + 1)
    log_e = np.array([log_evidence(f, done, 0.02, 1.0) for f in failures])
    mean = np.exp(log_e + stats.binom.logpmf(failures, done, 0.02)).sum()
    assert mean == pytest.approx(1.0, rel=1e-6)


def test_looking_after_every_install_stops_a_normal_release_as_seldom_as_promised():
    alive, stopped = {0: 1.0}, 0.0  # chance of each count of failures without a stop so far
    for done in range(1, 501):
        following: dict[int, float] = {}
        for failures, chance in alive.items():
            for more, share in ((0, 0.98), (1, 0.02)):
                following[failures + more] = following.get(failures + more, 0.0) + chance * share
        alive = {}
        for failures, chance in following.items():
            if log_evidence(failures, done, 0.02, 1.0) >= math.log(100):
                stopped += chance
            else:
                alive[failures] = chance
    assert 0.0005 < stopped <= 0.01


def test_three_failures_among_the_first_five_installs_stop_at_once():
    assert judge_installs(Installs((True, False, True, False, True)), 0.02, 0.01) is not None
    assert judge_installs(Installs((False, True)), 0.02, 0.01) is None


def test_failures_of_one_site_say_less_than_as_many_of_many_sites():
    failed = (False,) * 5 + (True,) * 8 + (False,) * 37
    assert judge_installs(Installs(failed, (1,) * 50), 0.02, 0.01) is not None
    assert judge_installs(Installs(failed, (50,)), 0.02, 0.01) is None
    assert design_effect((1,) * 50) == 1.0
    assert design_effect(()) == 1.0


@pytest.mark.parametrize("harm", [-0.24, 0.0, 0.24])
def test_evidence_is_finite_where_devices_agree_to_the_last_digit(harm):
    agreed = Comparison(
        harm=harm, variance=1.9e-34, variance_cautious=1.9e-34, variance_lasting=0.0, degrees=4.0,
        devices=5, devices_effective=5.0, controls=0, outliers=0, outlier_chance=1.0,
    )  # fmt: skip
    assert math.isfinite(statistics.harm_evidence(agreed, 0.03))
