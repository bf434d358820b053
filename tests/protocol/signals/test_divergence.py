"""Textbook statistics on bins, held against SciPy on the same binned data."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from muster_protocol.signals import baseline, binning, distributions, divergence, drift, features
from muster_protocol.wire.errors import ProtocolError
from support.summaries import window

rng = np.random.default_rng(8)
TRAINED = baseline.fit({"x": rng.normal(size=(4000, 3))}, features.elements("x", 3))
TRAINING = divergence.training_counts(TRAINED)
COUNTED = binning.count(TRAINED, {"x": rng.normal([0, 0.5, 2], [1, 1.3, 1], size=(700, 3))})


def shares(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(axis=-1, keepdims=True)


def test_jensen_shannon_matches_scipy() -> None:
    want = [
        distance.jensenshannon(p, q) ** 2
        for p, q in zip(shares(TRAINING), shares(COUNTED.bins), strict=True)
    ]
    np.testing.assert_allclose(divergence.jensen_shannon(COUNTED.bins, TRAINING), want, rtol=1e-9)


def test_psi_is_the_sum_of_both_relative_entropies() -> None:
    live = divergence.pooled_live(TRAINED)
    now, then = divergence.pooled(TRAINED, COUNTED.bins), divergence.pooled(TRAINED, TRAINING)
    got = divergence.psi(now, then, live)
    for i in range(3):
        p, q = (shares(side[i, live[i]] + 0.5) for side in (then, now))
        assert got[i] == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))


def test_ks_is_the_largest_distance_of_the_cumulative_shares() -> None:
    # SciPy's two-sample statistic of the bins' numbers, repeated as often as they were counted.
    for i in range(3):
        then = np.repeat(np.arange(24), np.round(TRAINING[i]).astype(int))
        now = np.repeat(np.arange(24), COUNTED.bins[i])
        want = stats.ks_2samp(now, then).statistic
        assert divergence.ks(COUNTED.bins[i], TRAINING[i]) == pytest.approx(want, abs=1e-6)


def test_wasserstein_matches_scipy() -> None:
    for i in range(3):
        edges = np.array(TRAINED.bins[i].edges)
        middles = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
        want = stats.wasserstein_distance(middles, middles, COUNTED.bins[i], TRAINING[i])
        got = divergence.wasserstein(COUNTED.bins[i], TRAINING[i], edges)
        assert got == pytest.approx(want, rel=1e-9)


def test_chi_square_matches_scipy() -> None:
    for i in range(3):
        table = np.stack([COUNTED.bins[i], TRAINING[i]])
        table = table[:, table.sum(axis=0) > 0]
        want = stats.chi2_contingency(table, correction=False)
        got, freedom = divergence.chi_square(COUNTED.bins[i], TRAINING[i])
        assert got == pytest.approx(want.statistic, rel=1e-9)
        assert freedom == want.dof
        assert distributions.chi_square_tail(got, freedom) == pytest.approx(want.pvalue, abs=1e-12)


@pytest.mark.parametrize("freedom", [0.7, 1, 2.5, 30, 900])
def test_tails_match_scipy(freedom: float) -> None:
    for value in (0.01, 0.9, 3.0, 17.0, 80.0):
        tail = distributions.chi_square_tail(value, freedom)
        assert tail == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-8, abs=1e-14)
        tail = distributions.student_tail(value, freedom)
        assert tail == pytest.approx(2 * stats.t.sf(value, freedom), rel=1e-8)
    for alpha in (0.05, 1e-4, 1e-7):
        quantile = distributions.student_quantile(alpha, freedom)
        assert quantile == pytest.approx(stats.t.isf(alpha / 2, freedom), rel=1e-6)


@pytest.mark.parametrize("n", [50, 100, 300, 3000])
def test_corrected_psi_is_about_zero_without_drift_at_any_sample_size(n: int) -> None:
    live = divergence.pooled_live(TRAINED)
    then = divergence.pooled(TRAINED, TRAINING)
    # What training sampled is part of the correction: draw both sides anew.
    shares_ = np.r_[0, 0.005, np.full(20, 0.0495), 0.005, 0]
    draws = np.random.default_rng(n)
    got = [
        divergence.psi_corrected(
            draws.multinomial(n, shares_, 3), draws.multinomial(4000, shares_, 3) * 1.0, live
        )
        for _ in range(300)
    ]
    assert abs(np.mean(got)) < 0.04
    assert then.sum() == pytest.approx(12_000)


def test_a_feature_that_never_varied_has_statistics_too() -> None:
    trained = baseline.fit({"x": np.zeros((100, 1))}, features.elements("x", 1))
    still = divergence.statistics(binning.count(trained, {"x": np.zeros((50, 1))}))[0]
    assert still.psi_corrected < 0.05
    moved = divergence.statistics(binning.count(trained, {"x": np.ones((50, 1))}))[0]
    assert moved.psi_corrected > 1
    assert moved.ks == pytest.approx(1)
    assert moved.wasserstein == pytest.approx(1)


def test_statistics_name_features_and_know_their_n() -> None:
    counted = window(250, seed=1, nulls=0.1)
    assert counted.features is not None
    statistics = drift.statistics(counted, counted.features.baseline)
    assert [item.name for item in statistics][:4] == ["temperature", "pressure", "valve", "grade"]
    assert all(item.n + item.nulls == 250 for item in statistics)
    assert statistics[2].ks is None
    assert statistics[3].wasserstein is None
    with pytest.raises(ProtocolError, match="counted against baseline"):
        drift.statistics(counted, TRAINED)
