"""Which rows are sampled: never more than wanted, none twice, evenly from strata and classes."""

import random
from collections import Counter

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from muster_agent.observe.sampling import choosing
from muster_agent.observe.sampling.choosing import DAY_SECONDS, Rows
from muster_protocol.wire.sampling import Stratum

STRATA: tuple[Stratum, ...] = ("random", "low_confidence", "drifting", "by_class")


@st.composite
def seen(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(0, 40))
    good = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    if draw(st.booleans()):
        return Rows(good, drifting=draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return Rows(good, rng.uniform(size=count), rng.integers(0, 4, count), draw(st.booleans()))


@given(
    seen(),
    st.lists(st.sampled_from(STRATA), min_size=1, max_size=4, unique=True),
    st.integers(0, 50),
    st.floats(0, 1),
)
def test_at_most_as_many_rows_as_are_wanted_each_once_and_of_its_stratum(
    rows: Rows, strata: list[Stratum], wanted: int, below: float
) -> None:
    found = choosing.pick(
        rows, strata, wanted, confidence_below=below, taken={}, rng=random.Random(1)
    )
    places = [place for place, _ in found]
    assert len(found) <= wanted
    assert len(set(places)) == len(places)
    for place, stratum in found:
        assert rows.good[place]
        assert stratum in strata
        if stratum == "low_confidence":
            assert rows.confidence is not None
            assert rows.confidence[place] < below
        assert stratum != "drifting" or rows.drifting
        assert stratum != "by_class" or rows.classes is not None
    if "random" in strata:
        assert len(found) == min(wanted, int(rows.good.sum()))


@given(st.integers(1, 60), st.lists(st.integers(0, 3), min_size=4, max_size=200))
def test_each_class_is_taken_as_often_as_the_others_as_far_as_it_has_rows(
    wanted: int, classes: list[int]
) -> None:
    rows = Rows(np.ones(len(classes), bool), np.ones(len(classes)), np.array(classes))
    found = choosing.pick(
        rows, ["by_class"], wanted, confidence_below=0, taken={}, rng=random.Random(2)
    )
    taken, there = Counter(classes[place] for place, _ in found), Counter(classes)
    most = max(taken.values(), default=0)
    assert all(count >= most - 1 or count == there[name] for name, count in taken.items())


@given(
    st.integers(1, 100_000),
    st.lists(st.floats(0, 7_200), min_size=1, max_size=200),
)
def test_a_day_is_spread_and_never_exceeded_by_more_than_an_hours_rows(
    rows_per_day: int, pauses: list[float]
) -> None:
    now, taken = 0.0, 0
    pace = choosing.full(rows_per_day, now)
    for pause in pauses:
        now += pause
        rows = pace.allowed(now)
        pace.take(rows)
        taken += rows
    most = max(1.0, rows_per_day / 24)
    assert taken <= rows_per_day * now / DAY_SECONDS + most + 1e-6
