"""Swap permits, decided: who counts as down, and what an answer is an answer to."""

import pytest

from muster_hub.rollouts.budgets import BudgetUnit
from muster_hub.rollouts.permits import (
    VALID_SECONDS,
    Goal,
    Permit,
    PermitRequest,
    answer,
    is_down,
)
from muster_hub.rollouts.plan import Plan

NEW, OLD = "ab" * 32, "cd" * 32
GIVEN = 1_000.0
LAPSED = GIVEN + 2 * VALID_SECONDS
LEAVE = Permit(device="p1", slot="vision", manifest=NEW, given_at=GIVEN)


def report(state, manifest=NEW, slot="vision"):
    return {"slots": {slot: {"update": {"state": state, "manifest": manifest}}}}


# Counting as down


@pytest.mark.parametrize("state", ["idle", "committed", "failed"])
def test_a_device_is_through_once_it_says_that_the_new_version_is_settled(state):
    assert not is_down(LEAVE, report(state), GIVEN + 0.1)


@pytest.mark.parametrize("state", ["starting", "probation", "rolling_back"])
def test_a_device_in_the_middle_of_its_swap_is_down_however_long_it_takes(state):
    assert is_down(LEAVE, report(state), GIVEN + 1)
    assert is_down(LEAVE, report(state), LAPSED + 1_000_000)


@pytest.mark.parametrize("state", ["committed", "failed"])
def test_what_another_version_came_to_says_nothing_while_leave_may_still_be_used(state):
    assert is_down(LEAVE, report(state, OLD), LAPSED)
    assert not is_down(LEAVE, report(state, OLD), LAPSED + 0.1)


@pytest.mark.parametrize("state", ["staged", "fetching"])
def test_leave_that_was_not_used_frees_its_place_once_it_has_surely_lapsed(state):
    assert is_down(LEAVE, report(state), LAPSED)
    assert not is_down(LEAVE, report(state), LAPSED + 0.1)


def test_a_report_from_before_leave_was_given_shows_nothing():
    assert is_down(LEAVE, report("committed"), GIVEN)
    assert is_down(LEAVE, report("committed"), None)
    assert is_down(LEAVE, None, GIVEN + 10 * VALID_SECONDS)


def test_what_another_slot_came_to_shows_nothing():
    assert is_down(LEAVE, report("committed", slot="sound"), GIVEN + 1)


# Answers

UNITS = [BudgetUnit("p1", {}, online=True), BudgetUnit("p2", {}, online=True)]
GOAL = Goal(manifest=NEW, generation=5, plan=Plan())


def answered(goal=GOAL, down=(), **asked):
    question = {"device": "p1", "slot": "vision", "manifest": NEW, "generation": 5} | asked
    return answer(PermitRequest(**question), goal, UNITS, down, 0.0)


def test_leave_is_given_for_what_the_live_directive_names():
    assert answered().given


@pytest.mark.parametrize("asked", [{"generation": 4}, {"generation": 6}, {"manifest": OLD}])
def test_a_question_about_another_directive_is_told_to_wait_for_the_newer(asked):
    assert answered(**asked) == answered(goal=None)
    assert not answered(**asked).given
    assert answered(**asked).reason == "a newer directive is on its way"


def test_a_paused_rollout_gives_no_leave_and_says_why():
    held = Goal(manifest=NEW, generation=5, plan=Plan(), held="rollout 3 is paused")
    assert (answered(held).given, answered(held).reason) == (False, "rollout 3 is paused")


def test_going_back_waits_for_nothing():
    back = Goal(manifest=NEW, generation=5, plan=None, held="rollout 3 is paused")
    assert answered(back, down=["p2"]).given
