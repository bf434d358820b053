"""When a loop opens, where it goes, and that every one of them ends."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.loop.decide import (
    MONTH_SECONDS,
    LoopSeen,
    Memory,
    ModelSeen,
    advance,
    held_back,
    seconds_of,
    trigger,
)
from muster_hub.settings.loop import ENDED, LoopState, LoopTerms

HOUR = 3600.0
DAY = 24 * HOUR
TERMS = LoopTerms(
    model="pump", pipeline="webhook", url="http://x.example", drift_devices=4,
    drift_after_seconds=HOUR, cooldown_seconds=2 * DAY, runs_per_30_days=2,
)  # fmt: skip


def looks(counts, step=HOUR / 2, terms=TERMS, **seen):
    """At which of these looks a loop opens, by devices that drift at each."""
    memory, opened = Memory(), []
    for number, drifting in enumerate(counts):
        model = ModelSeen(drifting=drifting, **seen)
        memory, opens = trigger(terms, memory, model, number * step)
        if opens:
            opened.append(number)
    return opened


def test_a_drift_on_enough_devices_for_long_enough_opens_one_loop():
    assert looks([4] * 20) == [2]


def test_a_drift_on_too_few_devices_opens_none():
    assert looks([3] * 20) == []


def test_a_drift_that_breaks_off_starts_anew():
    assert looks([4, 4, 0, 4, 4, 4, 4]) == [5]


def test_a_number_that_wavers_about_the_mark_opens_no_second_loop():
    assert looks([4, 4, 4, 3, 4, 3, 4, 4, 4, 4]) == [2]


def test_after_the_drift_has_gone_the_next_opens_another():
    assert looks([4, 4, 4, 1, 4, 4, 4]) == [2, 6]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"open": True}, "is open"),
        ({"busy": "rollout 3 of it is under way"}, "rollout 3"),
        ({"runs": 2}, "2 trainings in 30 days"),
        ({"ended": -DAY}, "cooling down for another 24.0 h"),
    ],
)
def test_what_holds_a_loop_back_is_said_and_it_opens_once_that_is_over(seen, why):
    assert why in held_back(TERMS, ModelSeen(**seen), 0.0)
    memory = Memory()
    for number in range(4):
        memory, opens = trigger(TERMS, memory, ModelSeen(drifting=9, **seen), number * HOUR)
        assert not opens
    assert trigger(TERMS, memory, ModelSeen(drifting=9), 5 * HOUR)[1]


def test_a_clock_that_goes_back_opens_no_loop_early():
    memory, _ = trigger(TERMS, Memory(), ModelSeen(drifting=4), 10 * HOUR)
    assert not trigger(TERMS, memory, ModelSeen(drifting=4), 2 * HOUR)[1]


def seen(state, **fields):
    return LoopSeen(state=state, deadline=100.0, **fields)


@pytest.mark.parametrize(
    ("loop", "state", "why"),
    [
        (seen("wanted", approved=True), "training", "approved"),
        (seen("training", run="running", version="4"), "checking", "version 4"),
        (seen("training", run="failed", run_fault="out of memory"), "failed", "out of memory"),
        (seen("checking", version_status="rejected", version_reason="gate size"), "failed", "size"),
        (seen("checking", version_status="awaiting_signatures"), "signing", "must sign"),
        (seen("checking", version_status="published"), "rollout", "roll it out"),
        (seen("signing", version_status="published"), "rollout", "roll it out"),
        (seen("signing", version_status="retired"), "failed", "gone"),
        (seen("rollout", rollout_state="completed"), "closed", "rolled out"),
        (seen("rollout", rollout_state="stopped", rollout_reason="errors 2.1x"), "failed", "2.1x"),
    ],
)
def test_a_loop_goes_on_when_what_it_waits_for_has_come(loop, state, why):
    move = advance(loop, 0.0)
    assert move is not None
    assert move.state == state
    assert why in move.reason


@pytest.mark.parametrize(
    "loop",
    [
        seen("wanted"),
        seen("training", run="running"),
        seen("training"),
        seen("checking", version_status="checking"),
        seen("signing", version_status="awaiting_signatures"),
        seen("rollout"),
        seen("rollout", rollout_state="paused"),
    ],
)
def test_a_loop_that_waits_in_vain_is_abandoned_and_says_for_what(loop):
    assert advance(loop, 99.0) is None
    move = advance(loop, 100.0)
    assert move is not None
    assert move.state == "abandoned"
    assert "in time" in move.reason


@pytest.mark.parametrize("state", ENDED)
def test_a_loop_that_has_ended_stays_so_whatever_comes(state):
    assert advance(seen(state, approved=True, run="failed", version="4"), 1e9) is None


events = st.fixed_dictionaries(
    {
        "hours": st.floats(0.1, 24 * 3),
        "drifting": st.integers(0, 6),
        "busy": st.sampled_from(["", "", "", "a rollout is under way"]),
        "approved": st.booleans(),
        "run": st.sampled_from(["running", "succeeded", "failed"]),
        "version": st.sampled_from(["", "4"]),
        "status": st.sampled_from(["checking", "awaiting_signatures", "published", "rejected"]),
        "rollout": st.sampled_from(["", "running", "completed", "aborted"]),
    }
)


@given(st.lists(events, max_size=60))
def test_whatever_happens_one_loop_at_a_time_each_in_its_time_within_budget_and_cool_down(happened):
    """A life of one model: drift, dead pipelines, people who don't sign, rollouts that fail."""
    now, memory = 0.0, Memory()
    loop: dict | None = None
    opened: list[float] = []
    runs: list[float] = []
    ended: float | None = None
    for event in happened:
        now += event["hours"] * HOUR
        if loop is not None:
            reached = []
            while True:
                found = LoopSeen(
                    state=loop["state"], deadline=loop["deadline"], approved=event["approved"],
                    run=event["run"], version=event["version"], version_status=event["status"],
                    rollout_state=event["rollout"],
                )  # fmt: skip
                move = advance(found, now)
                if move is None:
                    break
                reached.append(move.state)
                assert len(reached) <= len(get_args(LoopState)), "it goes round in circles"
                loop = {"state": move.state, "deadline": now + seconds_of(TERMS, move.state)}
                if move.state == "training":
                    runs.append(opened[-1])
                assert move.reason
            if loop["state"] in ENDED:
                loop, ended = None, now
            else:
                assert now < loop["deadline"], "a deadline has passed unnoticed"
        recent = sum(at >= now - MONTH_SECONDS for at in runs)
        seen_now = ModelSeen(
            drifting=event["drifting"], open=loop is not None, busy=event["busy"], runs=recent,
            ended=ended,
        )  # fmt: skip
        memory, opens = trigger(TERMS, memory, seen_now, now)
        if opens:
            assert loop is None, "two loops of one model"
            assert not event["busy"]
            assert recent < TERMS.runs_per_30_days
            assert ended is None or now - ended >= TERMS.cooldown_seconds
            loop = {"state": "wanted", "deadline": now + seconds_of(TERMS, "wanted")}
            opened.append(now)


def test_every_state_has_its_time_and_only_an_ended_one_has_for_ever():
    for state in get_args(LoopState):
        assert (seconds_of(TERMS, state) == float("inf")) == (state in ENDED)
