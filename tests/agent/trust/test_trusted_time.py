"""Trusted time: what counts as a clock, and what never does."""

from hypothesis import given
from hypothesis import strategies as st

from muster_agent.trust.time import BUILD_TIME, ClockReading, Instant, trusted_now

WALL = st.floats(-1e9, 1e11)
QUALITY = st.sampled_from(["unknown", "floor", "synchronised"])
ISSUED = st.integers(0, 10**10)


@given(WALL, QUALITY, ISSUED)
def test_trusted_time_is_never_before_the_build_or_a_signed_issue_time(
    wall: float, quality: str, issued: int
) -> None:
    instant = trusted_now(ClockReading(wall, quality), issued)  # type: ignore[arg-type]  # any word
    assert instant.seconds >= max(BUILD_TIME, issued)
    if quality != "synchronised":
        assert instant == Instant(max(BUILD_TIME, issued), "floor")


def test_a_synchronised_clock_counts_unless_it_is_before_what_was_signed() -> None:
    later = BUILD_TIME + 1000
    assert trusted_now(ClockReading(later + 0.9, "synchronised")) == Instant(later, "synchronised")
    assert trusted_now(ClockReading(60.0, "synchronised"), later) == Instant(later, "floor")


def test_a_floor_can_tell_that_something_is_over_but_not_that_it_has_not_begun() -> None:
    floor = Instant(100, "floor")
    assert floor.past(100)
    assert not floor.past(101)
    assert not floor.not_yet(1000)
    assert Instant(100, "synchronised").not_yet(101)
