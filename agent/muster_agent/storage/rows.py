"""What the agent's database holds, as values. Pure."""

from msgspec import Struct

from muster_protocol.wire.directive import Goal


class JournalRow(Struct, frozen=True, omit_defaults=True):
    """Where one slot's update stands. Replaced as a whole, by the runner only."""

    state: str
    goal: Goal | None = None
    generation: int = 0
    resumes: int = 0
    """Restarts of the agent in this state without progress between them."""
    mark: int = 0
    """Progress within the state: bytes fetched, or seconds and inferences of probation."""
    resumed_mark: int = 0
    """``mark`` as it was at the last resume."""
    attempts: int = 0
    """Tries at this goal that failed for a passing reason."""
    attempt: str = ""
    """The directive's name for the try in hand."""
    refusal: str | None = None
    detail: str = ""
    probation_seconds: float = 0.0
    probation_inferences: int = 0
    probation_errors: int = 0
    probation_crashes: int = 0
    gap_seconds: float = 0.0
    """In which no model answered because the champion made room for the candidate."""


class Pointer(Struct, frozen=True, omit_defaults=True):
    """The committed champion of a slot: what boots."""

    goal: Goal
    since: bytes = b""
    """MessagePack of the ``Stamp`` of the commit; empty when rebuilt from a link."""
    previous: Goal | None = None
    """The champion before it, to which a late demotion goes back; None after one."""


class Adopted(Struct, frozen=True):
    """The directive in force, with the envelope that proves it."""

    epoch: int
    generation: int
    envelope: bytes
