"""The update's table: complete, closed, and safe by default."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.update import render
from muster_agent.update.table import (
    BOUNDED,
    ON_ENTRY,
    ON_RESUME,
    PASSING,
    TABLE,
    Act,
    Cause,
    State,
    following,
    parse,
    resumes,
)
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX
from muster_protocol.wire.messages import UpdateState


def test_every_state_of_the_wire_is_in_the_table_and_no_other():
    assert {state.value for state in State} == set(UpdateState.__args__)
    assert set(TABLE) == set(ON_ENTRY) == set(ON_RESUME) == set(State)


@pytest.mark.parametrize(("state", "cause"), list(itertools.product(State, Cause)))
def test_every_cause_leads_to_a_known_state_or_is_ignored(state, cause):
    target = following(state, cause)
    assert target is None or isinstance(target, State)


def test_only_a_passed_probation_commits_something_new():
    causes = {
        (state, cause)
        for state, cause in itertools.product(State, Cause)
        if following(state, cause) is State.COMMITTED and cause is not Cause.SATISFIED
    }
    assert causes == {(State.PROBATION, Cause.PASSED)}


def test_a_candidate_starts_only_from_a_verified_bundle():
    before = {s for s, c in itertools.product(State, Cause) if following(s, c) is State.STARTING}
    assert before == {State.STAGED}
    before = {s for s, c in itertools.product(State, Cause) if following(s, c) is State.STAGED}
    assert before == {State.VERIFYING}


def test_once_swapped_every_fault_and_every_new_goal_goes_through_the_rollback():
    for cause in (Cause.FAULT, Cause.GOAL, Cause.SATISFIED, Cause.WITHDRAWN):
        assert following(State.PROBATION, cause) is State.ROLLING_BACK
    assert dict(TABLE[State.ROLLING_BACK]) == {
        Cause.RESTORED: State.FAILED, Cause.DAMAGED: State.FAILED,
    }  # fmt: skip


def test_what_is_committed_is_left_by_a_fault_only_through_the_rollback():
    assert following(State.COMMITTED, Cause.FAULT) is State.ROLLING_BACK
    assert ON_ENTRY[State.ROLLING_BACK] is ON_RESUME[State.ROLLING_BACK] is Act.RESTORE


def test_before_the_swap_a_fault_only_fails():
    for state in (State.FETCHING, State.VERIFYING, State.STARTING):
        assert following(state, Cause.FAULT) is State.FAILED


def test_while_a_swap_waits_nothing_can_fail():
    assert following(State.STAGED, Cause.FAULT) is None


def test_what_is_committed_is_left_only_for_another_goal_or_the_version_before():
    left = {Cause.GOAL: State.FETCHING, Cause.FAULT: State.ROLLING_BACK}
    assert dict(TABLE[State.COMMITTED]) == left


def test_every_state_can_be_left_for_a_new_goal():
    for state in State:
        reached, frontier = {state}, [state]
        while frontier:
            for target in TABLE[frontier.pop()].values():
                if target not in reached:
                    reached.add(target)
                    frontier.append(target)
        assert State.FETCHING in reached


def test_a_restart_never_swaps_without_starting_the_candidate_anew():
    assert Act.SWAP not in ON_RESUME.values()
    assert ON_RESUME[State.PROBATION] is Act.START


@given(st.text())
def test_an_unknown_state_is_rolled_back(text):
    known = {state.value for state in State}
    assert parse(text) is (State(text) if text in known else State.ROLLING_BACK)


@pytest.mark.parametrize("state", State)
def test_restarts_without_progress_are_bounded_where_they_could_loop(state):
    count, restarts = 0, 0
    while count is not None and restarts < 100:
        count = resumes(state, count, progressed=False)
        restarts += 1
    assert restarts == (JOURNAL_RESUMES_MAX + 1 if state in BOUNDED else 100)


@given(st.sampled_from(State), st.integers(0, JOURNAL_RESUMES_MAX))
def test_progress_forgives_earlier_restarts(state, before):
    assert resumes(state, before, progressed=True) == 0


def test_what_a_bundle_itself_does_wrong_is_never_tried_again():
    for refusal in (
        Refusal.GOLDEN_MISMATCH, Refusal.LOAD_FAILED, Refusal.WORKER_DIED, Refusal.FILE_MISMATCH,
        Refusal.PROBATION_CRASHED, Refusal.PROBATION_ERRORS, Refusal.RESUME_LIMIT,
    ):  # fmt: skip
        assert refusal not in PASSING


PAGE = Path(__file__).resolve().parents[3] / "docs" / "update.md"


def test_the_page_shows_the_table_as_it_is():
    assert render.main([str(PAGE), "--check"]) == 0, (
        "run: python -m muster_agent.update.render docs/update.md"
    )


def test_the_command_renews_a_stale_page_and_refuses_one_without_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{render.BEGIN}\nstale\n{render.END}\nafter\n")
    assert render.main([str(page), "--check"]) == 1
    assert render.main([str(page)]) == 0
    assert render.main([str(page), "--check"]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert all(f"| `{state}` |" in text for state in State)
    page.write_text("no marks")
    assert render.main([str(page)]) == 2
