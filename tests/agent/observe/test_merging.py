"""Which windows merge when the outbox is full."""

import hypothesis.strategies as st
from hypothesis import given

from muster_agent.observe.merging import Mergeable, plan_merges

rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.integers(1, 500)), max_size=40
).map(lambda made: [Mergeable(i, *row) for i, row in enumerate(made)])


def test_single_windows_pair_before_pairs_become_quadruples_the_oldest_first() -> None:
    queue = [Mergeable(i, "a", windows, 100) for i, windows in enumerate([2, 2, 1, 1, 1, 1])]
    ids = [(first.id, second.id) for first, second in plan_merges(queue, 300)]
    assert ids == [(2, 3), (4, 5), (0, 1)]


def test_no_more_is_merged_than_is_needed() -> None:
    queue = [Mergeable(i, "a", 1, 100) for i in range(10)]
    assert len(plan_merges(queue, 1)) == 1
    assert len(plan_merges(queue, 250)) == 3
    assert plan_merges(queue, 0) == []


@given(rows, st.integers(0, 5000))
def test_pairs_are_disjoint_neighbours_of_one_manifest(queue: list[Mergeable], wanted: int) -> None:
    plan = plan_merges(queue, wanted)
    used = [row.id for pair in plan for row in pair]
    assert len(used) == len(set(used))
    for first, second in plan:
        between = [row for row in queue if first.id < row.id < second.id]
        assert first.manifest == second.manifest
        assert all(row.manifest != first.manifest for row in between)


@given(rows)
def test_as_long_as_two_windows_of_a_manifest_wait_one_more_merge_is_found(
    queue: list[Mergeable],
) -> None:
    mergeable = any(sum(row.manifest == name for row in queue) > 1 for name in "ab")
    assert bool(plan_merges(queue, 1)) == mergeable
