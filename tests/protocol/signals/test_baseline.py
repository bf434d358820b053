"""The binned training distribution: its bins, its file, and counting against it."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from muster_protocol.signals import baseline, binning, features
from muster_protocol.signals.baseline import CATEGORIES_MAX, NUMERIC_BINS, SHARE_ONE, Baseline
from muster_protocol.wire import limits
from muster_protocol.wire.errors import LimitError, ProtocolError


def fit(x: np.ndarray, **kwargs: str) -> Baseline:
    x = np.asarray(x)
    return baseline.fit({"x": x}, features.elements("x", x.shape[1], **kwargs))


values = st.one_of(
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 3.4028235e38, -3.4028235e38, 1e-45]),
)
columns = st.lists(values, min_size=1, max_size=60)


def test_numeric_bins_hold_a_twentieth_each_and_small_tails() -> None:
    x = np.random.default_rng(0).normal(size=(100_000, 1)).astype(np.float32)
    shares = fit(x).shares[0] / SHARE_ONE
    assert len(shares) == NUMERIC_BINS
    np.testing.assert_allclose(shares[2:-2], 0.99 / 20, atol=1e-3)
    np.testing.assert_allclose(shares[[1, -2]], 0.005, atol=1e-4)
    assert shares[0] == shares[-1] == 0


@given(columns)
def test_every_value_is_in_the_bin_its_edges_say(column: list[float]) -> None:
    fitted = fit(np.array([[0.0], [1.0], [1.0], [2.5], [7.0], [7.0], [9.0]], np.float32))
    x = np.array(column, np.float32)
    counts = binning.count(fitted, {"x": x[:, None]})
    finite = x[np.isfinite(x)]
    edges = fitted.edges[0]
    want = np.bincount([int((edges <= value).sum()) for value in finite], minlength=NUMERIC_BINS)
    np.testing.assert_array_equal(counts.bins[0], want)
    assert counts.nulls[0] == len(x) - len(finite)
    assert counts.low[0] == finite.min(initial=np.inf)
    assert counts.high[0] == finite.max(initial=-np.inf)


@given(columns)
def test_counting_the_training_set_gives_the_baseline_back(column: list[float]) -> None:
    x = np.array([*column, 0.5], np.float32)[:, None]
    fitted = fit(x)
    counts = binning.count(fitted, {"x": x})
    rows = int(fitted.rows[0])
    assert counts.values[0] == rows
    # Half a unit of the fixed point per bin, and what small shares were rounded up by.
    np.testing.assert_allclose(
        counts.bins[0] / rows, fitted.shares[0] / SHARE_ONE, atol=NUMERIC_BINS / SHARE_ONE
    )
    assert not counts.bins[0][~fitted.live[0]].any(), "nothing falls into a bin without width"


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=64).filter(any))
def test_shares_add_up_to_one_and_nothing_seen_gets_none(tally: list[int]) -> None:
    shares = baseline.fixed_shares(np.array(tally, np.int64))
    assert sum(shares) == SHARE_ONE
    assert all((share > 0) == (count > 0) for share, count in zip(shares, tally, strict=True))


def test_moments_are_those_of_the_values() -> None:
    rng = np.random.default_rng(1)
    fitted = fit(rng.normal(100, 3, size=(500, 2)))
    x = rng.normal(101, 2, size=(300, 2)).astype(np.float32)
    x[5, 0] = np.nan
    counts = binning.count(fitted, {"x": x})
    np.testing.assert_allclose(counts.mean(), np.nanmean(x, axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(counts.std(), np.nanstd(x, axis=0, dtype=np.float64), rtol=1e-6)


def test_categories_beyond_the_most_frequent_are_others() -> None:
    x = np.concatenate([np.repeat(np.arange(CATEGORIES_MAX), 3), [1000, 1001, np.nan]])
    fitted = fit(x[:, None], kind="categorical")
    assert set(fitted.bins[0].categories) == set(range(CATEGORIES_MAX))
    assert fitted.bins[0].nulls == 1
    counts = binning.count(fitted, {"x": np.array([[5.0], [5.0], [4321.0], [np.nan], [0.5]])})
    assert counts.bins[0].sum() == 4
    assert counts.bins[0, fitted.bins[0].categories.index(5)] == 2
    assert counts.bins[0, -1] == 2, "a category training did not know, and a fraction"
    assert counts.nulls[0] == 1


def test_text_and_boolean_categories() -> None:
    fitted = fit(np.array([["red"], ["red"], ["blue"], [""]]), kind="categorical")
    assert fitted.bins[0].categories == ("red", "blue")
    assert fitted.bins[0].nulls == 1
    switch = fit(np.array([[True], [False], [True]]), kind="boolean")
    assert switch.bins[0].categories == (0, 1)
    with pytest.raises(ProtocolError, match="boolean but has values beside 0 and 1"):
        fit(np.array([[2.0]]), kind="boolean")


@settings(max_examples=30)
@given(columns)
def test_the_file_gives_the_same_baseline_back(column: list[float]) -> None:
    x = np.array([[*column, 0.5]], np.float32).T
    spec = (*features.elements("x", ["a"]), *features.elements("x", ["b"], kind="categorical"))
    fitted = baseline.fit({"x": x}, spec)
    again = baseline.decode(baseline.encode(fitted))
    assert (again.features, again.bins, again.digest) == (
        fitted.features, fitted.bins, fitted.digest,
    )  # fmt: skip


def test_a_file_at_fault_is_refused_in_words() -> None:
    data = baseline.encode(fit(np.arange(50.0)[:, None]))
    for bad, words in [
        (b"", "not a baseline"),
        (b"PK" + data, "not a baseline"),
        (data[:8] + b"\x07" + data[9:], "format 7 is not known"),
        (data[:-5], "cut short"),
        (data + b"x", "cut short"),
        (data[:9] + b"not zlib at all", "not a valid baseline"),
    ]:
        with pytest.raises(ProtocolError, match=words):
            baseline.decode(bad)
    with pytest.raises(LimitError):
        baseline.decode(bytes(limits.BASELINE_BYTES_MAX + 1))


def test_a_feature_without_values_cannot_be_fitted() -> None:
    with pytest.raises(ProtocolError, match=r"'x\[0\]' has no finite value among 2 rows"):
        fit(np.array([[np.nan], [np.inf]]))
