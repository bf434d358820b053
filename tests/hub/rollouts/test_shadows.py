"""A shadow's judgement: what it waits for, what stops it, and what lets the canary begin."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.plan import read_plan
from muster_hub.rollouts.shadows import (
    Shadow,
    ShadowPlan,
    Watched,
    judge,
    reported_challenger,
    wanted,
)
from muster_protocol.wire.errors import ProtocolError
from support.rollout_world import DONE, World

PLAN = ShadowPlan(devices=3, min_seconds=600.0, compared_min=1000)


def watched(*devices, **fields):
    settled = {"state": "comparing", "compared": 500, "disagreed": 10} | fields
    return [Watched(device=name, **settled) for name in devices or ("a", "b", "c")]


def look(devices, *, plan=PLAN, elapsed=700.0, at=4, **options):
    return judge(plan, devices, elapsed_seconds=elapsed, look=at, **options)


def test_enough_alike_answers_let_the_canary_begin_and_the_reason_says_what_was_not_judged():
    found = look(watched())
    assert found.action == "advance"
    assert found.reason == (
        "2.00% of 1500 answers differ, as allowed; which is right was not judged (labels of 0 "
        "devices, 4 would tell)."
    )


def test_it_waits_for_inputs_and_says_what_each_device_waits_for():
    slow = watched("a", compared=100, disagreed=0)
    held = [Watched(device="b", state="waiting", detail="memory: it may take 9 MiB, 3 are free")]
    found = look([*slow, *held])
    assert found.action == "wait"
    assert found.reason == (
        "1 of 2 devices compare, 100 of 1000 inputs compared; b waits for memory: it may take "
        "9 MiB, 3 are free."
    )


def test_it_is_watched_as_long_as_the_plan_asks():
    found = look(watched(), elapsed=100.0)
    assert found.action == "wait"
    assert "watched for 500 s more" in found.reason


def test_too_many_other_answers_stop_the_release_and_name_the_device_that_differs_most():
    found = look([*watched("a", "b"), *watched("c", disagreed=490)])
    assert found.action == "stop"
    assert "34.00% of 1500 answers differ, 20.00% allowed; most on c, 98.0%" in found.reason


def test_a_device_that_refuses_the_release_stops_it_at_once():
    bad = [Watched(device="b", state="failed", detail="golden_mismatch: golden case 3")]
    found = look([*watched("a", compared=0), *bad], elapsed=1.0)
    assert found.action == "stop"
    assert found.reason == "1 of 2 devices refused it: b golden_mismatch: golden case 3."
    assert look([*watched("a", compared=0), *bad], failures_allowed=1).action == "wait"


def test_inputs_that_it_cannot_answer_stop_it_before_its_time():
    found = look(watched(compared=200, failed=5), elapsed=1.0)
    assert found.action == "stop"
    assert "could not answer 2.50% of 600 inputs" in found.reason


def labelled(right, champion_right, count=6, labels=500):
    names = [f"d{number}" for number in range(count)]
    return [
        replace(item, labelled=labels, right=right(number), champion_right=champion_right(number))
        for number, item in enumerate(watched(*names))
    ]


def test_labels_that_favour_the_champion_on_the_same_inputs_stop_the_release():
    found = look(labelled(lambda n: 400 + n, lambda n: 450))
    assert found.action == "stop"
    assert "accuracy loss" in found.reason


def test_labels_that_favour_the_release_let_it_pass():
    found = look(labelled(lambda n: 455 + n, lambda n: 450))
    assert found.action == "advance"
    assert "right +1.5 points more often" in found.reason


def test_labels_that_settle_nothing_keep_it_waiting_for_more_or_for_an_operator():
    found = look(labelled(lambda n: 450 + 60 * (-1) ** n, lambda n: 450))
    assert found.action == "wait"
    assert "advance by hand" in found.reason


def test_two_models_that_are_right_alike_everywhere_are_no_worse():
    assert look(labelled(lambda n: 450, lambda n: 450)).action == "advance"


counts = st.integers(0, 2000)


@given(
    st.lists(
        st.builds(
            lambda device, state, a, b, c, d, e: Watched(
                device=device, state=state, compared=max(a, b), disagreed=min(a, b),
                failed=min(a, b) // 2, labelled=c, right=min(d, c), champion_right=min(e, c),
            ),
            st.sampled_from("abcdef"), st.sampled_from(["", "waiting", "comparing", "failed"]),
            counts, counts, counts, counts, counts,
        ),
        max_size=12,
    ),
    st.floats(0, 1e6),
    st.integers(1, 200),
)  # fmt: skip
def test_whatever_is_told_it_is_judged_in_words_and_never_passes_a_refusal(devices, elapsed, at):
    found = look(devices, elapsed=elapsed, at=at)
    assert found.reason.endswith((".", "…"))
    if any(device.state == "failed" for device in devices):
        assert found.action == "stop"
    if found.action == "advance":
        assert elapsed >= PLAN.min_seconds
        assert sum(device.compared for device in devices) >= PLAN.compared_min


def test_a_report_tells_of_this_release_only():
    slots = {"main": {"challenger": {"manifest": "m", "state": "failed", "refusal": "too_slow",
                                     "detail": "40 ms"}}}  # fmt: skip
    assert reported_challenger(slots, "main", "m") == ("failed", "too_slow: 40 ms")
    assert (
        reported_challenger(slots, "main", "other")
        == reported_challenger(slots, "aux", "m")
        == reported_challenger(None, "main", "m")
    )


@pytest.mark.parametrize(("devices", "matching", "count"), [(0.1, 50, 5), (0.1, 3, 1), (4, 3, 3)])
def test_a_shadow_takes_a_share_or_a_number_and_at_least_one(devices, matching, count):
    assert wanted(ShadowPlan(devices=devices), matching) == count


def test_a_plan_whose_shadow_is_misspelt_names_the_field():
    with pytest.raises(ProtocolError, match="shadow"):
        read_plan({"shadow": {"devices": 0}})


# Within a rollout


def shadowing(world, **fields):
    settled = {"devices": world.decision.shadow, "since": world.now} | fields
    world.rollout = replace(world.rollout, shadow=Shadow(**settled))


def test_no_device_is_asked_to_run_a_release_that_is_still_in_shadow():
    world = World(8, canary=2, shadow=ShadowPlan(devices=3))
    decision = world.step()
    assert len(decision.shadow) == 3
    assert (decision.why, decision.target) == ("shadow", ())
    assert "will watch it beside what they run" in decision.reason
    shadowing(world, reason="3 of 3 devices compare.")
    decision = world.step(10_000)
    assert (decision.why, decision.target) == ("shadow", ())
    assert decision.reason == "Shadow: 3 of 3 devices compare."


def test_a_passed_shadow_lets_the_canary_begin():
    world = World(8, canary=2, shadow=ShadowPlan(devices=3))
    world.step()
    shadowing(world, action="advance")
    world.step()
    assert len(world.reached()) == 2
    world.observe(DONE, *world.members)
    for _ in range(4):
        world.step(100)
    assert world.rollout.state == "completed"


def test_a_shadow_that_stops_ends_the_rollout_before_any_device_ran_it():
    world = World(8, canary=2, shadow=ShadowPlan(devices=3))
    world.step()
    shadowing(world, action="stop", reason="34 % of answers differ.")
    world.step()
    assert world.rollout.state == "stopped"
    assert world.reason == "Stopped in shadow, before any device ran it: 34 % of answers differ."
    assert world.reached() == []


def test_without_a_canary_the_shadow_still_comes_first():
    world = World(8, canary=0, shadow=ShadowPlan(devices=3))
    assert world.step().why == "shadow"
    shadowing(world, action="advance")
    world.step()
    assert len(world.reached()) == 8


def test_approval_comes_before_the_shadow():
    world = World(8, canary=2, approve_start=True, shadow=ShadowPlan(devices=3))
    assert world.step().why == "approval"
    world.rollout = replace(world.rollout, approved=0)
    assert world.step().why == "shadow"


def test_devices_that_are_away_are_not_waited_for_and_join_the_shadow_when_they_come():
    world = World(4, online={0}, canary=2, shadow=ShadowPlan(devices=2))
    first = world.step().shadow
    assert first == ("d00",)
    shadowing(world)
    world.turn(True, "d01", "d02", "d03")
    second = world.step().shadow
    assert second[0] == "d00"
    assert len(second) == 2


def test_a_paused_or_aborted_rollout_draws_no_device_into_its_shadow():
    for state in ("paused", "aborted"):
        world = World(4, canary=2, shadow=ShadowPlan(devices=2))
        world.rollout = replace(world.rollout, state=state)
        assert world.step().shadow == ()


def test_the_shadow_is_drawn_by_lot_and_alike_whenever_it_is_asked():
    world = World(20, canary=2, shadow=ShadowPlan(devices=5))
    other = World(20, canary=2, shadow=ShadowPlan(devices=5))
    other.rollout = replace(other.rollout, id=4)
    assert world.step().shadow == world.step().shadow
    assert world.step().shadow != other.step().shadow
