"""Disruption budgets: never more down than allowed, and an impossible one is said at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_hub.rollouts.budgets import Budget, BudgetUnit, refusal, unsatisfiable
from muster_hub.rollouts.plan import read_plan
from muster_protocol.wire.errors import ProtocolError


def line(name: str, count: int, online: int | None = None) -> list[BudgetUnit]:
    online = count if online is None else online
    return [BudgetUnit(f"{name}-{n}", {"line": name}, online=n < online) for n in range(count)]


def test_one_line_has_room_while_another_is_full():
    budgets = [Budget(group_by=("line",), max_unavailable=1)]
    units = line("a", 5) + line("b", 5)
    assert refusal(budgets, units, {"a-1"}, "b-1") is None
    assert refusal(budgets, units, {"a-1"}, "a-2") == (
        "the budget of line=a lets 1 of 5 swap at once; swapping or silent since: a-1"
    )


def test_a_device_that_asks_again_takes_its_own_place():
    budgets = [Budget(max_unavailable=1)]
    assert refusal(budgets, line("a", 3), {"a-1"}, "a-1") is None


def test_devices_that_are_away_count_against_what_must_stay_available():
    budgets = [Budget(min_available=3)]
    assert refusal(budgets, line("a", 5, online=5), {"a-1"}, "a-2") is None
    assert refusal(budgets, line("a", 5, online=4), {"a-1"}, "a-2") == (
        "the budget of all devices keeps 3 of 5 available; 2 would be left (1 offline, 1 swapping)"
    )


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_unavailable=0), "max_unavailable 0 can never be met in all devices"),
        (Budget(group_by=("line",), min_available=3), "per line can never be met in line=b"),
        (Budget(min_available="100%"), "min_available 100% can never be met"),
    ],
)
def test_a_budget_that_no_device_could_meet_is_said_at_once(budget, said):
    reason = unsatisfiable([budget], line("a", 5) + line("b", 3))
    assert reason is not None
    assert said in reason
    assert "no device there could ever swap" in reason


def test_a_share_of_a_small_group_lets_one_go():
    assert unsatisfiable([Budget(group_by=("line",), max_unavailable="10%")], line("a", 3)) is None
    assert Budget(max_unavailable="10%").most_down(40) == 4


@pytest.mark.parametrize("values", [{}, {"max_unavailable": "300%"}, {"max_unavailable": -1}])
def test_a_budget_that_says_nothing_sensible_is_refused(values):
    with pytest.raises(ProtocolError, match="rollout plan"):
        read_plan({"budgets": [values]})


amounts = st.one_of(st.none(), st.integers(0, 6), st.sampled_from(["10%", "34%", "100%"]))


@given(amounts, amounts, st.integers(1, 8), st.integers(0, 8), st.data())
def test_granting_one_by_one_never_exceeds_a_budget(most, least, size, online, data):
    if most is None and least is None:
        return
    budget = Budget(max_unavailable=most, min_available=least)
    units = line("a", size, online)
    down: set[str] = set()
    order = data.draw(st.permutations([unit.device for unit in units if unit.online]))
    for device in order:
        if refusal([budget], units, down, device) is None:
            down.add(device)
    assert len(down) <= budget.most_down(size)
    if unsatisfiable([budget], units) is None and online >= size:
        assert down, "a budget that can be met lets somebody go"
