"""Placebo canaries: what a gate does on a past in which nothing was released."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.gates.judge import Gate
from muster_hub.rollouts.gates.metrics.errors import RULE as ERRORS
from muster_hub.rollouts.gates.placebo import Past, Placebo, draw, replay

GATE = Gate(metrics=(ERRORS,), looks=16)


def past(seed=1, *, devices=80, windows=48, wander=0.0, strata=4):
    rng = np.random.default_rng(seed)
    exposure = np.full((devices, windows), 50.0)
    rate = 0.02 * np.exp(rng.normal(0, 0.3, (devices, 1)) + rng.normal(0, wander, (devices, 2))[
        :, (np.arange(windows) >= windows - 16).astype(int)
    ])  # fmt: skip
    events = rng.poisson(np.minimum(rate, 1) * exposure).astype(float)
    return Past(events, exposure, np.arange(devices) % strata)


def test_a_calm_fleet_keeps_the_gates_promise():
    placebo = replay(GATE, ERRORS, past(), canaries=20, draws=60, seed=7)
    assert not placebo.surprising
    assert placebo.hardened() == ERRORS
    assert f"stopped {placebo.false_stops} of 60" in placebo.words


def test_the_same_seed_replays_the_same_canaries():
    first, two = (replay(GATE, ERRORS, past(), canaries=20, draws=10, seed=7) for _ in range(2))
    assert first == two


def test_a_metric_that_stops_too_often_is_made_stricter_by_as_much():
    placebo = Placebo(metric=ERRORS, draws=200, false_stops=20)
    assert placebo.surprising
    assert placebo.hardened().false_stop == pytest.approx(0.001)
    assert "stricter" in placebo.words


def test_one_false_stop_in_a_hundred_is_what_was_promised():
    assert not Placebo(metric=ERRORS, draws=100, false_stops=1).surprising


def test_a_past_too_short_or_a_fleet_too_small_is_refused():
    with pytest.raises(ValueError, match="more than the 80 devices"):
        replay(GATE, ERRORS, past(), canaries=80, draws=1, seed=1)
    with pytest.raises(ValueError, match="1 windows"):
        replay(GATE, ERRORS, past(windows=1), canaries=20, draws=1, seed=1)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(0, 2**32), st.data())
def test_canaries_are_drawn_from_each_stratum_in_proportion(strata, seed, data):
    stratum = np.array(strata)
    count = data.draw(st.integers(1, len(strata)))
    chosen = draw(np.random.default_rng(seed), stratum, count)
    assert len(set(chosen.tolist())) == count
    for item in np.unique(stratum):
        share = count * (stratum == item).sum() / len(strata)
        assert abs((stratum[chosen] == item).sum() - share) <= 1 + 4 / 2
