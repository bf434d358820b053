"""How far a window's spread has fallen: by a measure whose tails a normal one's limits foretell."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from muster_protocol.signals import baseline, charts, timeline
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.charts import Plan
from muster_protocol.signals.vectors import SPREAD_OFFSET
from support import in_time

ALL = np.ones(1, np.bool_)
RANKS = (np.arange(1000) + 0.5) / 1000
TOLERANCE = 1.5
"""The cube root is all but normal; the logarithm of 50 rows is off by a factor of 17 at 5.0."""
FAR = (2.0, 3.0, 4.0, 5.0, 5.5, 6.0)


def spreads_of(freedom: float, usual: float) -> np.ndarray:
    """[windows]: a normal signal's, as windows of so many independent rows (and one) have them."""
    return usual * np.sqrt(stats.chi2.ppf(RANKS, freedom) / freedom)


def tails(freedom: float, usual: float, evened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chance below and above each of ``FAR`` standard deviations, over that of a normal number."""
    x = np.log(spreads_of(freedom, usual) + SPREAD_OFFSET)
    chart = charts.fit(Plan(0.3, largest=True), x[:, None], np.zeros(1), evened)
    deviations = charts.evened(evened, x[:, None] - chart.mean)[:, 0]
    unit = deviations.std()
    finest = np.log(usual * np.geomspace(1e-4, 1e2, 20_000) + SPREAD_OFFSET)
    off = charts.evened(evened, finest[:, None] - chart.mean)[:, 0]
    found = []
    for far in FAR:
        reached = np.exp(np.interp([-far * unit, far * unit], off, finest)) - SPREAD_OFFSET
        low, high = freedom * np.square(np.maximum(reached, 0.0) / usual)
        beyond = off[0] <= -far * unit
        found.append(
            [stats.chi2.cdf(low, freedom) if beyond else 0.0, stats.chi2.sf(high, freedom)]
        )
    below, above = np.array(found).T / stats.norm.sf(FAR)
    return below, above


@settings(max_examples=15, deadline=None)
@given(st.floats(2.0, 500.0), st.floats(0.1, 3.0))
def test_however_few_rows_no_spread_is_far_off_more_often_than_a_normal_number(
    freedom: float, usual: float
) -> None:
    below, above = tails(freedom, usual, ALL)
    assert below.max() < TOLERANCE
    assert above.max() < TOLERANCE


def test_the_logarithm_alone_falls_far_too_often_with_fifty_rows() -> None:
    below, _ = tails(49, 1.0, ~ALL)
    assert below[FAR.index(5.0)] > 10


def test_a_spread_that_rises_stays_a_logarithm_and_other_numbers_stay_as_they_are() -> None:
    off = np.array([[-0.5, 0.7], [0.3, -0.7], [np.nan, 50.0]])
    evened = charts.evened(np.array([True, False]), off)
    assert -0.5 < evened[0, 0] < -0.4
    np.testing.assert_array_equal(evened[1:], off[1:])
    assert evened[0, 1] == off[0, 1]
    small = charts.evened(ALL, np.array([-1e-6]))
    np.testing.assert_allclose(small, -1e-6, rtol=1e-5)


def of_logarithms(fitted: Baseline) -> Baseline:
    """The same as it was written before there was a choice."""
    assert fitted.normal is not None
    before = [
        msgspec.structs.replace(chart, falling="logarithm") for chart in fitted.normal.file.charts
    ]
    file = msgspec.structs.replace(fitted.normal.file, charts=tuple(before))
    return baseline.made(fitted.features, fitted.bins, file)


def test_a_baseline_says_by_what_its_limits_count_falling_spreads() -> None:
    fitted = in_time.fitted()
    now, before = (
        baseline.decode(baseline.encode(each)).normal for each in (fitted, of_logarithms(fitted))
    )
    assert now is not None
    assert before is not None
    numeric = len(in_time.NAMES)
    for chart in now.charts:
        spreads = chart.evened if chart.file.relations else chart.evened[numeric : 2 * numeric]
        assert spreads.all()
        assert chart.file.relations or chart.evened.sum() == numeric
    assert not any(chart.evened.any() for chart in before.charts)


def test_a_measure_that_this_version_does_not_know_is_refused() -> None:
    fitted = in_time.fitted()
    assert fitted.normal is not None
    first = msgspec.structs.replace(fitted.normal.file.charts[0], falling="square")
    with pytest.raises(msgspec.ValidationError, match="square"):
        msgspec.convert(msgspec.to_builtins(first), timeline.ChartFile)
