"""Sampling limits: right in the far tail, where alerts live, for any shape of a row."""

import numpy as np
import pytest
from scipy import stats

from muster_protocol.signals.sampling import Spread, normal_quantile

ALPHA = 1e-6
FOREVER = np.array([1e12])
"""Rows of a reference so long that it adds no error of its own."""


def limits(values: list[float], shares: list[float], rows: int) -> tuple[float, float]:
    spread = Spread.of(np.array([values]), np.array([shares]), FOREVER)
    n = np.array([float(rows)])
    down, up = (spread.limits(np.array([side]), n, ALPHA)[0] for side in (-1.0, 1.0))
    return float(down), float(up)


def test_normal_quantiles_match_scipy() -> None:
    for alpha in (0.05, 1e-6, 1e-10):
        assert normal_quantile(alpha) == pytest.approx(stats.norm.isf(alpha / 2), rel=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("rows", [50, 300, 3000])
def test_a_share_leaves_its_limits_as_often_as_the_exact_binomial_says(
    share: float, rows: int
) -> None:
    """Within a count of the exact limit: counts are whole, limits are not."""
    down, up = limits([1.0, 0.0], [share, 1 - share], rows)
    exact = stats.binom.isf(ALPHA / 2, rows, share)
    assert abs((share + up) * rows - exact) <= 1 + 0.02 * exact
    exact = stats.binom.ppf(ALPHA / 2, rows, share)
    if np.isfinite(down):
        assert abs((share - down) * rows - exact) <= 1 + 0.02 * exact


def test_a_normal_score_has_normal_limits() -> None:
    values = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    down, up = limits(values.tolist(), [1 / 200] * 200, 300)
    want = stats.norm.isf(ALPHA / 2) * values.std() / np.sqrt(300)
    assert (down, up) == (pytest.approx(want, rel=0.02), pytest.approx(want, rel=0.02))


def test_a_reference_of_few_rows_widens_the_limits() -> None:
    shares = np.array([[0.5, 0.5]])
    n, up = np.array([300.0]), np.array([1.0])
    few = Spread.of(np.array([[1.0, 0.0]]), shares, np.array([300.0])).limits(up, n, ALPHA)
    many = Spread.of(np.array([[1.0, 0.0]]), shares, FOREVER).limits(up, n, ALPHA)
    assert few[0] == pytest.approx(many[0] * np.sqrt(2), rel=0.03)


def test_what_no_window_could_prove_has_no_limit() -> None:
    assert limits([1.0, 0.0], [0.5, 0.5], 5) == (np.inf, np.inf)
