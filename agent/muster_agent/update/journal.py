"""The next row of the journal, and what of it the hub must hear. Pure."""

from typing import Any, Literal

import msgspec

from muster_agent.storage.rows import JournalRow
from muster_agent.update.table import Cause, State
from muster_protocol.wire.directive import Goal
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import EVENT_DETAIL_CHARS_MAX

_NEW_GOAL = frozenset({Cause.GOAL, Cause.SATISFIED, Cause.WITHDRAWN})
_EVENT_STATES = frozenset({State.PROBATION, State.COMMITTED, State.ROLLING_BACK})


def next_row(row: JournalRow, target: State, cause: Cause, changes: dict[str, Any]) -> JournalRow:
    """``row`` moved to ``target``; ``changes`` are what the cause brought along."""
    if cause in _NEW_GOAL and target is not State.ROLLING_BACK:
        return JournalRow(state=target, **changes)
    if cause in _NEW_GOAL:
        # The new goal waits until the champion serves again.
        changes = {"refusal": Refusal.SUPERSEDED, "detail": "another goal took its place"}
    elif cause is Cause.READY:
        changes = {"refusal": None, "detail": ""}
    if target != row.state:
        changes = {"mark": 0, "resumed_mark": 0, "resumes": 0} | changes
    if target is State.FAILED:
        changes = {"attempts": row.attempts + 1} | changes
    return msgspec.structs.replace(row, state=target, **changes)


def resumed(row: JournalRow, state: State, resumes: int) -> JournalRow:
    """``row`` as found at a restart that takes it for ``state``."""
    changes: dict[str, Any] = {"state": state, "resumes": resumes, "resumed_mark": row.mark}
    if state != row.state:
        changes["detail"] = f"the journal held the unknown state {row.state!r}"
    return msgspec.structs.replace(row, **changes)


def in_hand(row: JournalRow, state: State, goal: Goal, attempt: str) -> bool:
    """Whether nothing is to be begun for ``goal``; one that was refused is, by a fresh try."""
    fresh = state is State.FAILED and attempt not in ("", row.attempt)
    return row.goal is not None and row.goal.manifest == goal.manifest and not fresh


def renumbered(row: JournalRow, state: State, generation: int, attempt: str) -> JournalRow:
    """``row`` under a directive that names the goal in hand.

    What is rolled back already is of the try before: the fresh one comes once it has failed.
    """
    if state is State.ROLLING_BACK or not attempt:
        attempt = row.attempt
    return msgspec.structs.replace(row, generation=generation, attempt=attempt)


def event_kind(
    before: State, target: State, old: JournalRow, new: JournalRow
) -> Literal["update", "refused", "rolled_back"] | None:
    """The kind of event this step is, told once; None when the report is enough."""
    if target is State.FAILED:
        if before is State.ROLLING_BACK:
            return "rolled_back"
        again = new.attempts > 1 and new.refusal == old.refusal
        return None if again else "refused"
    return "update" if target is not before and target in _EVENT_STATES else None


def died(row: JournalRow, goal: Goal, refusal: Refusal, detail: str) -> JournalRow:
    """What is told of a champion's death; never written to the journal."""
    return JournalRow(row.state, goal, row.generation, refusal=refusal, detail=detail)


def retry_pause(row: JournalRow, least: float, most: float) -> float:
    """Seconds before a goal refused for a passing reason is tried again: doubling, bounded.

    For want of space only the disk is looked at again, so that pause stays short.
    """
    if row.refusal == Refusal.NO_SPACE:
        return least
    return min(most, least * 2.0 ** min(max(row.attempts - 1, 0), 16))


def short(detail: str) -> str:
    """As much of it as an event carries."""
    return detail[:EVENT_DETAIL_CHARS_MAX]
