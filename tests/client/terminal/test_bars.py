"""Distributions drawn in characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_client.terminal import bars

counts = st.lists(st.integers(0, 10**6), min_size=1, max_size=64)


@given(counts)
def test_bars_show_every_bin_that_holds_something(values: list[int]) -> None:
    drawn = bars.bars(bars.shares(values), max(bars.shares(values)))
    assert [char == " " for char in drawn] == [value == 0 for value in values]


def test_bars_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bins expected, 2 counted"):
        bars.compare([1, 2, 3], [1, 2], alarming=False)


def test_a_meter_stays_within_its_width() -> None:
    assert bars.meter(0, 0, 4) == "░░░░"
    assert bars.meter(9, 3, 4) == "████"
