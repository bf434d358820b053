"""The whole update on one screen: what follows what, and what a restart does. Pure.

The runner persists the next state, then does ``ON_ENTRY`` of it. After a restart it does
``ON_RESUME`` of the state it finds. What the table doesn't list is ignored in that state.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Self

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import JOURNAL_RESUMES_MAX


class State(StrEnum):
    """Values are the wire's ``messages.UpdateState``."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    STARTING = "starting"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling_back"
    FAILED = "failed"


class _Described(StrEnum):
    """Members with a sentence about them, which the rendered table quotes."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Cause(_Described):
    """What moves an update from one state to the next."""

    GOAL = "goal", "the directive names another version than the one in progress, or a fresh try"
    SATISFIED = "satisfied", "the directive names the version that is already committed"
    WITHDRAWN = "withdrawn", "the directive no longer names the slot"
    FETCHED = "fetched", "every chunk is in the store"
    DAMAGED = "damaged", "a chunk, or the champion to go back to, is missing or damaged"
    VERIFIED = "verified", "the bundle is assembled and hashed"
    PERMITTED = "permitted", "the swap has nothing left to wait for"
    READY = "ready", "the candidate has passed its golden vectors and is warm"
    PASSED = "passed", "the candidate has served long enough and without trouble"
    FAULT = (
        "fault",
        "refused, the journal says why; after a commit only if there is a version before",
    )
    RESTORED = "restored", "the champion serves again"
    RETRY = "retry", "the reason was temporary and the pause is over"


class Act(_Described):
    """What is done when a state is entered, or taken up again after a restart."""

    REST = "rest", "nothing to do"
    FETCH = "fetch", "get what the store lacks, and only what release keys signed"
    ASSEMBLE = "assemble", "assemble the files and hash each"
    WAIT = "wait", "wait until nothing forbids the swap"
    START = "start", "start the candidate beside the champion, or after the champion has made room"
    SWAP = "swap", "the candidate serves, the champion stays loaded"
    COMMIT = "commit", "the candidate is the champion; pointer and state are one transaction"
    RESTORE = (
        "restore",
        "the champion serves, the candidate goes; after a commit the version before is champion",
    )
    CLEAN = "clean", "the candidate is removed; the champion is not affected"


S, C, A = State, Cause, Act
TABLE = MappingProxyType({
    S.IDLE:         {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED},
    S.FETCHING:     {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED, C.WITHDRAWN: S.IDLE,
                     C.FETCHED: S.VERIFYING, C.FAULT: S.FAILED},
    S.VERIFYING:    {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED, C.WITHDRAWN: S.IDLE,
                     C.VERIFIED: S.STAGED, C.DAMAGED: S.FETCHING, C.FAULT: S.FAILED},
    # No candidate lives and nothing is written while a swap waits: there is nothing to fail.
    S.STAGED:       {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED, C.WITHDRAWN: S.IDLE,
                     C.PERMITTED: S.STARTING},
    S.STARTING:     {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED, C.WITHDRAWN: S.IDLE,
                     C.READY: S.PROBATION, C.FAULT: S.FAILED},
    S.PROBATION:    {C.GOAL: S.ROLLING_BACK, C.SATISFIED: S.ROLLING_BACK,
                     C.WITHDRAWN: S.ROLLING_BACK, C.READY: S.PROBATION,
                     C.PASSED: S.COMMITTED, C.FAULT: S.ROLLING_BACK},
    # What is committed is in hand: a directive that names it brings a new number, no cause.
    S.COMMITTED:    {C.GOAL: S.FETCHING, C.FAULT: S.ROLLING_BACK},
    S.ROLLING_BACK: {C.RESTORED: S.FAILED, C.DAMAGED: S.FAILED},
    S.FAILED:       {C.GOAL: S.FETCHING, C.SATISFIED: S.COMMITTED, C.WITHDRAWN: S.IDLE,
                     C.RETRY: S.FETCHING},
})  # fmt: skip
#                   entered            resumed            restarts without progress are bounded
_ACTS = {
    S.IDLE:         (A.CLEAN,          A.REST,            False),
    S.FETCHING:     (A.FETCH,          A.FETCH,           True),
    S.VERIFYING:    (A.ASSEMBLE,       A.ASSEMBLE,        True),
    S.STAGED:       (A.WAIT,           A.WAIT,            False),
    S.STARTING:     (A.START,          A.START,           True),
    S.PROBATION:    (A.SWAP,           A.START,           True),
    S.COMMITTED:    (A.COMMIT,         A.COMMIT,          False),
    S.ROLLING_BACK: (A.RESTORE,        A.RESTORE,         False),
    S.FAILED:       (A.CLEAN,          A.REST,            False),
}  # fmt: skip
HOLDS = MappingProxyType({
    S.IDLE:         "No update is in progress. The committed model, if any, serves.",
    S.FETCHING:     "The committed model serves. A verified chunk is never fetched again.",
    S.VERIFYING:    "The committed model serves. What is being assembled can't be run yet.",
    S.STAGED:       "The committed model serves. The bundle is complete, hashed and durable.",
    S.STARTING:     "The committed model serves, or has made room. The candidate answers nothing.",
    S.PROBATION:    "The candidate serves, and can be rolled back at any moment.",
    S.COMMITTED:    "The version that the pointer names serves, and starts at every boot.",
    S.ROLLING_BACK: "The committed model takes over. The candidate is never started at a boot.",
    S.FAILED:       "The committed model serves. The refusal stays until another goal or try.",
})  # fmt: skip
"""What is promised while a state lasts; pages quote it."""
ON_ENTRY = MappingProxyType({state: acts[0] for state, acts in _ACTS.items()})
ON_RESUME = MappingProxyType({state: acts[1] for state, acts in _ACTS.items()})
BOUNDED = frozenset(state for state, acts in _ACTS.items() if acts[2])

OF_METADATA = frozenset(
    {Refusal.UNSIGNED_MANIFEST, Refusal.METADATA_EXPIRED, Refusal.METADATA_MISSING}
)
"""Reasons that newer metadata may lift."""
PASSING = OF_METADATA | {
    Refusal.CHUNK_MISSING, Refusal.CHUNK_ALTERED, Refusal.NO_SPACE, Refusal.NO_MEMORY,
    Refusal.DEVICE_FAULT, Refusal.SUPERSEDED,
}  # fmt: skip
"""Reasons that lie in the surroundings, not in the bundle: worth another try after a pause."""


def following(state: State, cause: Cause) -> State | None:
    """The next state, or None when ``cause`` means nothing in ``state``."""
    return TABLE[state].get(cause)


_BY_VALUE = {state.value: state for state in State}


def parse(state: str) -> State:
    """A state as the journal holds it; one this version doesn't know is rolled back."""
    return _BY_VALUE.get(state, State.ROLLING_BACK)


def resumes(state: State, before: int, *, progressed: bool) -> int | None:
    """Resumes without progress after one more restart, or None when it is one too many."""
    if state not in BOUNDED or progressed:
        return 0
    return before + 1 if before < JOURNAL_RESUMES_MAX else None
