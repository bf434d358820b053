"""Summaries add up: in any order, to what one pass over all rows gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_protocol.signals import histogram, summary
from muster_protocol.signals.summary import Tally
from muster_protocol.wire.errors import ProtocolError
from support.summaries import assert_same, of, rows, window, windows


@settings(max_examples=40, deadline=None)
@given(windows, windows)
def test_merging_is_commutative(a: summary.Summary, b: summary.Summary) -> None:
    assert_same(summary.merge(a, b), summary.merge(b, a))


@settings(max_examples=40, deadline=None)
@given(windows, windows, windows)
def test_merging_is_associative(a: summary.Summary, b: summary.Summary, c: summary.Summary) -> None:
    left = summary.merge(summary.merge(a, b), c)
    assert_same(left, summary.merge(a, summary.merge(b, c)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.0, 0.3]))
def test_merged_windows_equal_one_pass_over_their_rows(n: int, m: int, nulls: float) -> None:
    first, second = rows(n, seed=1, nulls=nulls), rows(m, seed=2, shift=1.0, nulls=nulls)
    both = {name: np.concatenate([first[name], second[name]]) for name in first}
    merged = summary.merge(of(first), of(second)).features
    once = of(both).features
    assert merged is not None
    assert once is not None
    assert merged.rows == once.rows
    np.testing.assert_array_equal(merged.bins, once.bins)
    np.testing.assert_array_equal(merged.nulls, once.nulls)
    np.testing.assert_allclose(merged.mean(), once.mean(), rtol=1e-6)
    np.testing.assert_allclose(merged.std(), once.std(), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(merged.low, once.low)
    np.testing.assert_array_equal(merged.high, once.high)


def test_summaries_of_different_manifests_are_not_merged() -> None:
    other = replace(window(), manifest="cd" * 32, version="1.3")
    with pytest.raises(ProtocolError, match=r"press 1\.2 .* and press 1\.3 .* can't be merged"):
        summary.merge(window(), other)


def test_a_window_without_features_merges_with_one_that_has_some() -> None:
    labels = replace(window(0), counts=Tally(labels_wrong=3), features=None)
    full = window(50)
    assert summary.merge(labels, full).features is full.features
    assert summary.merge(full, labels).counts.labels_wrong == 3


def test_errors_are_told_by_kind() -> None:
    counts = Tally(errors_input=2, errors_run=3) + Tally(errors_run=1, inferences=9)
    assert counts.errors == 6
    assert counts.errors_by_kind() == {
        "input": 2, "run": 4, "output": 0, "no_model": 0, "other": 0,
    }  # fmt: skip


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=200))
def test_a_latency_is_in_the_bin_whose_edges_hold_it(latencies: list[int]) -> None:
    values = np.array(latencies)
    edges = histogram.latency_edges()
    bins = histogram.latency_bins(values)
    inside = np.minimum(values, histogram.LATENCY_US_MAX)
    assert (edges[bins] <= inside).all()
    assert (inside < edges[bins + 1]).all()
    assert (np.diff(edges) <= np.maximum(edges[:-1] / 8, 1)).all()


def test_latency_quantiles_are_within_a_bin_of_the_exact_ones() -> None:
    latencies = np.random.default_rng(3).lognormal(7, 0.8, 5000)
    counts = histogram.count_latency(latencies)
    for share in (0.5, 0.95, 0.99):
        exact = np.quantile(latencies, share) / 1e6
        assert histogram.latency_quantile(counts, share) == pytest.approx(exact, rel=0.06)
    assert np.isnan(histogram.latency_quantile(np.zeros_like(counts), 0.5))


def test_confidence_outside_zero_to_one_is_left_out() -> None:
    counts = histogram.count_confidence(np.array([0.0, 0.049, 0.5, 1.0, 1.01, -0.1, np.nan]))
    assert counts.sum() == 4
    assert (counts[0], counts[10], counts[-1]) == (2, 1, 1)
