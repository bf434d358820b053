"""Both ways of counting a batch give the same counts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_protocol.signals import baseline, binning, features

EXTREMES = (np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -np.finfo(np.float32).max, 0.0, -0.0)
FITTED = baseline.fit(
    {"x": np.random.default_rng(5).normal(size=(2000, 3)).round(1)}, features.elements("x", 3)
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(binning.COMPARED_ROWS_MIN, 2 * binning.COMPARED_ROWS_MIN),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2), st.sampled_from(EXTREMES))),
    st.sampled_from([0.5, 1.0, 30.0]),
)
def test_comparing_counts_what_sorting_counts(seed, rows, extremes, scale):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, 3)) * scale).round(1).astype(np.float32)
    for row, column, value in extremes:
        x[row, column] = value
    at_once = binning.count(FITTED, {"x": x})
    few = binning.COMPARED_ROWS_MIN - 1
    parts = [binning.count(FITTED, {"x": x[at : at + few]}) for at in range(0, rows, few)]
    summed = sum(parts[1:], parts[0])
    np.testing.assert_array_equal(at_once.bins, summed.bins)
    np.testing.assert_array_equal(at_once.nulls, summed.nulls)
    np.testing.assert_array_equal(at_once.low, summed.low)
    np.testing.assert_array_equal(at_once.high, summed.high)
    size = np.nansum(np.abs(x, where=np.isfinite(x), out=np.zeros(x.shape)), axis=0)
    assert (np.abs(at_once.total - summed.total) <= 1e-9 * (size + 1)).all()
    np.testing.assert_allclose(at_once.squares, summed.squares, rtol=1e-9)
