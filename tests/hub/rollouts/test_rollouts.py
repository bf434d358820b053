"""Rollouts: budgets of a wave, failures, time, and that every decision explains itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.decide import FETCH_SECONDS_MAX
from muster_hub.rollouts.members import Member, StagedRollout
from muster_hub.rollouts.plan import ALL, CANARY, Plan, read_plan
from muster_hub.rollouts.targets import canary_size, draw
from muster_protocol.wire.errors import ProtocolError
from support.rollout_world import BAD, BUSY, DONE, SEEN, World


def test_a_good_release_goes_canary_first_then_to_all():
    world = World(8, canary=0.25, min_soak_seconds=30)
    world.step()
    canary = world.reached()
    assert len(canary) == 2
    world.observe(BUSY, *canary)
    world.step()
    assert world.reached() == canary
    assert world.reason == (
        f"Wave 1 of 2 (canary): 0 of 2 committed, 2 under way; waiting for {canary[0]}, "
        f"{canary[1]}."
    )
    world.observe(DONE, *canary)
    world.step()
    assert "soaking for 30 s more" in world.reason
    assert world.reached() == canary
    world.step(30)
    assert len(world.reached()) == 8
    world.observe(DONE, *world.members)
    world.step()
    assert world.rollout.state == "completed"
    assert world.reason == "Completed: 8 committed."


def test_a_failing_canary_stops_the_rollout_and_withdraws_it():
    world = World(8, canary=2)
    world.step()
    first, second = world.reached()
    world.observe(DONE, first)
    world.observe(BAD, second)
    world.step()
    assert world.rollout.state == "stopped"
    assert world.states() == {first: "withdrawn", second: "failed"}
    assert world.reason == (
        "Stopped in wave 1 of 2 (canary): 1 of 2 reached failed, 0 allowed: "
        f"{second} golden_mismatch: case 3."
    )
    assert world.step().target == ()


def test_a_committed_canary_that_goes_back_while_it_soaks_stops_the_rollout():
    world = World(8, canary=2, min_soak_seconds=30)
    world.step()
    first, second = world.reached()
    world.observe(DONE, first, second)
    world.step()
    world.observe(BAD, second)
    world.step()
    assert world.rollout.state == "stopped"
    assert world.states() == {first: "withdrawn", second: "failed"}


def test_a_device_that_takes_too_long_has_failed():
    world = World(4, canary=1, timeout_seconds=100)
    world.step()
    (only,) = world.reached()
    world.observe(BUSY, only)
    world.step()
    world.step(99)
    assert world.rollout.state == "running"
    world.step(1)
    assert world.rollout.state == "stopped"
    assert "timed out: online for 100 s without committing (fetching)" in world.reason


def test_a_time_out_counts_what_a_slow_link_can_carry_but_not_without_end():
    world = World(4, canary=1, timeout_seconds=100)
    world.step()
    (only,) = world.reached()
    for seconds in range(60, 1200, 60):
        world.observe(replace(BUSY, fetch_seconds=float(seconds)), only)
        world.step(60)
        assert world.rollout.state == "running"
    world.step(100)
    world.step(60)
    assert world.rollout.state == "stopped"
    liar = World(4, canary=1, timeout_seconds=100)
    liar.step()
    liar.observe(replace(BUSY, fetch_seconds=1e9), *liar.reached())
    for _ in range(int(FETCH_SECONDS_MAX / 100) + 2):
        liar.step(100)
    assert liar.rollout.state == "stopped"


def test_the_time_out_clock_stands_while_a_device_is_offline():
    world = World(4, canary=1, timeout_seconds=100)
    world.step()
    (only,) = world.reached()
    world.turn(False, only)
    world.step()
    world.step(10_000)
    world.turn(True, only)
    world.step()
    world.step(99)
    assert world.rollout.state == "running"


def test_a_device_that_flaps_runs_out_of_time_all_the_same():
    world = World(4, canary=1, timeout_seconds=100)
    world.step()
    (only,) = world.reached()
    for _ in range(3):
        world.turn(True, only)
        world.step()
        world.step(30)
        world.turn(False, only)
        world.step()
        world.step(1_000)
    assert world.rollout.state == "running"
    world.turn(True, only)
    world.step()
    world.step(10)
    assert world.rollout.state == "stopped"
    assert "timed out: online for 103 s" in world.reason


@pytest.mark.parametrize("jump", [50_000, 3 * 86_400])
def test_time_in_which_the_hub_was_down_fails_nobody_and_ends_no_soak(jump):
    world = World(4, canary=1, timeout_seconds=600, min_soak_seconds=300)
    world.step()
    world.step()
    world.step(jump)
    assert world.rollout.state == "running"
    world.observe(DONE, *world.reached())
    world.step()
    world.step(jump)
    assert "soaking for 180 s more" in world.reason


def test_a_clock_that_jumps_back_fails_nobody():
    world = World(4, canary=1, timeout_seconds=100)
    world.step()
    world.step()
    world.step(-500_000)
    world.step(99)
    assert world.rollout.state == "running"


def test_offline_devices_neither_block_nor_pass_and_converge_later():
    world = World(4, online={0, 1}, canary=1, min_soak_seconds=0)
    world.step()
    canary = world.reached()
    assert canary[0] in ("d00", "d01")
    world.observe(DONE, *canary)
    world.step()
    assert len(world.reached()) == 4
    world.observe(DONE, "d00", "d01")
    world.step()
    assert world.rollout.state == "completed"
    assert world.reason == "Completed: 2 committed; 2 not yet (d02, d03), following by assignment."
    world.turn(True, "d02")
    world.observe(DONE, "d02")
    world.step()
    assert world.states()["d02"] == "committed"
    assert world.reason == "Completed: 3 committed; 1 not yet (d03), following by assignment."


def test_a_rollout_to_devices_that_are_all_away_says_what_it_waits_for():
    world = World(4, online=set(), canary=0.5)
    world.step()
    assert world.reached() == []
    assert world.reason.endswith("none of the 4 matching devices is online.")
    world = World(0)
    world.step()
    assert world.reason.endswith("no device matches the selector.")


def test_a_canary_that_went_away_does_not_pass_for_good():
    world = World(4, canary=1, min_soak_seconds=0)
    world.step()
    world.turn(False, *world.reached())
    world.step()
    assert world.rollout.wave == CANARY
    assert world.reason == (
        "Wave 1 of 2 (canary): 0 of 1 committed, 1 offline; waiting for a canary device to commit."
    )


def test_pausing_reaches_nobody_more_but_still_sees_failures():
    world = World(6, canary=0, failures_allowed=0)
    world.rollout = replace(world.rollout, state="paused")
    world.step()
    assert world.reached() == []
    world.rollout = replace(world.rollout, state="running")
    world.step()
    assert len(world.reached()) == 6
    world.rollout = replace(world.rollout, state="paused")
    world.observe(BAD, "d03")
    world.step()
    assert world.rollout.state == "stopped"


def test_aborting_withdraws_from_every_device_reached():
    world = World(4, canary=0)
    world.step()
    world.observe(DONE, "d00")
    world.step()
    world.rollout = replace(world.rollout, state="aborted")
    world.step()
    assert set(world.states().values()) == {"withdrawn"}
    assert world.members["d00"].reached.detail == "was committed"


def test_failures_within_the_allowance_are_left_behind():
    world = World(10, canary=0, failures_allowed=2)
    world.step()
    world.observe(BAD, "d01", "d02")
    world.observe(DONE, *(set(world.members) - {"d01", "d02"}))
    world.step()
    assert world.rollout.state == "completed"
    assert world.reason == "Completed: 8 committed, 2 failed."


def test_a_canary_that_failed_entirely_stops_even_within_the_allowance():
    world = World(10, canary=1, failures_allowed=3)
    world.step()
    world.observe(BAD, *world.reached())
    world.step()
    assert world.rollout.state == "stopped"


def test_no_more_are_under_way_than_allowed():
    world = World(9, canary=0, in_flight_max=2)
    world.step()
    assert len(world.reached()) == 2
    world.step()
    assert len(world.reached()) == 2
    world.observe(DONE, world.reached()[0])
    world.step()
    assert len(world.reached()) == 3


def test_a_device_that_joins_while_it_runs_is_reached_too():
    world = World(3, canary=0)
    world.step()
    world.members["new"] = Member(device="new", labels={}, online=True)
    world.step()
    assert "new" in world.reached(ALL)


def test_the_canary_is_drawn_in_proportion_to_strata_and_by_the_rollouts_own_lot():
    members = [
        Member(device=f"d{n:03}", labels={"site": "a" if n < 60 else "b"}, online=True)
        for n in range(80)
    ]
    drawn = {}
    for number in (1, 2):
        rollout = StagedRollout(
            id=number, state="running", wave=CANARY, plan=Plan(strata=("site",))
        )
        drawn[number] = draw(rollout, members)[:20]
        sites = [int(name[1:]) < 60 for name in drawn[number]]
        assert sum(sites) == 15
    assert drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("canary", "matching", "size"),
    [(0.25, 8, 2), (0.25, 1, 1), (0.01, 50, 1), (3, 2, 2), (5, 100, 5), (0.5, 0, 0)],
)
def test_the_canary_is_a_share_or_a_number(canary, matching, size):
    assert canary_size(Plan(canary=canary), matching) == size


@pytest.mark.parametrize("values", [{"canary": -1}, {"timeout_seconds": 0}, {"wave": 3}])
def test_a_plan_that_makes_no_sense_is_refused(values):
    with pytest.raises(ProtocolError, match="rollout plan"):
        read_plan(values)


names = st.sampled_from([f"d{number:02}" for number in range(8)])
acts = st.one_of(
    st.tuples(st.just("tell"), st.sampled_from([SEEN, BUSY, DONE, DONE, BAD]), names),
    st.tuples(st.just("turn"), st.booleans(), names),
    st.tuples(st.just("pass"), st.sampled_from([-100.0, 1.0, 20.0, 500.0]), names),
    st.tuples(st.just("state"), st.sampled_from(["running", "paused", "aborted"]), names),
)
plans = st.builds(
    Plan,
    canary=st.sampled_from([0, 0.25, 0.5, 1, 3]),
    min_soak_seconds=st.sampled_from([0, 15]),
    timeout_seconds=st.just(400.0),
    failures_allowed=st.integers(0, 2),
    in_flight_max=st.integers(0, 3),
    strata=st.sampled_from([(), ("site",)]),
)


@given(plans, st.lists(acts, max_size=40))
def test_whatever_happens_no_budget_is_exceeded_and_no_failure_is_passed(plan, history):
    world = World(8)
    world.rollout = replace(world.rollout, plan=plan)
    for kind, value, name in history:
        match kind:
            case "tell":
                world.observe(value, name)
            case "turn":
                world.turn(value, name)
            case "state" if world.rollout.state in ("running", "paused"):
                world.rollout = replace(world.rollout, state=value)
        before = world.rollout.state
        decision = world.step(value if kind == "pass" else 1.0)
        states = list(world.states().values())
        assert world.reason or world.rollout.state == "aborted"
        if world.rollout.wave == CANARY:
            assert len(world.reached()) <= canary_size(plan, 8)
        if decision.target:
            assert (before, world.rollout.state) == ("running", "running")
            assert states.count("failed") <= plan.failures_allowed
            if plan.in_flight_max:
                busy = [
                    member
                    for member in world.members.values()
                    if member.online
                    and member.reached
                    and member.reached.state in ("targeted", "in_progress")
                ]
                assert len(busy) <= max(plan.in_flight_max, len(busy) - len(decision.target))
        if states.count("failed") > plan.failures_allowed:
            assert world.rollout.state in ("stopped", "aborted", "completed")
        if world.rollout.state in ("stopped", "aborted"):
            world.step()
            assert set(world.states().values()) <= {"withdrawn", "failed"}


@given(plans, st.sets(names), st.sets(names))
def test_it_ends_once_every_device_online_has_spoken(plan, bad, away):
    world = World(8)
    world.rollout = replace(world.rollout, plan=plan)
    world.turn(False, *away)
    for _ in range(60):
        world.observe(DONE, *(set(world.reached()) - bad - away))
        world.observe(BAD, *(set(world.reached()) & bad - away))
        world.step(20)
    if world.rollout.state == "running":
        assert away
        assert "waiting" in world.reason or "is online" in world.reason
    else:
        assert world.rollout.state in ("completed", "stopped")
