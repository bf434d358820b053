"""Is there memory for two models at once, and what is done when there isn't? Pure.

A build's ``memory_bytes`` is what it may take; what isn't known of the device refuses nothing.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.limits import MIB
from muster_protocol.wire.manifest import Build, Manifest, Swap

NEVER = float("inf")


@dataclass(frozen=True)
class StopStart:
    """The champion stops, then the candidate starts: no model answers in between."""

    gap_seconds_max: float
    why: str


Plan = Literal["beside"] | StopStart | tuple[Refusal, str]


def plan(candidate: Manifest, build: Build, champion: Build | None, free_bytes: int) -> Plan:
    """How the candidate starts while ``free_bytes`` of memory are free, 0 when unknown.

    ``champion`` is the build that will take memory of its own yet, None when it has what it needs.
    """
    coming = champion.memory_bytes if champion is not None else 0
    if not free_bytes or free_bytes >= build.memory_bytes + coming:
        return "beside"
    short = (
        f"{free_bytes // MIB} MiB of memory are free beside the model that serves, "
        f"{candidate.model} {candidate.version} may take {build.memory_bytes // MIB}"
    )
    policy = Swap() if candidate.swap is UNSET else candidate.swap
    if policy.when_memory_short == "stop_start":
        return StopStart(policy.gap_seconds_max, short)
    advice = "free some, or let the manifest's swap say stop_start"
    return Refusal.NO_MEMORY, f"{short}: {advice}"


class Gap:
    """The time in which no model of a slot answers because its champion made room."""

    def __init__(self) -> None:
        self._began = NEVER
        self.until = NEVER
        """When the candidate must have begun to answer."""

    @property
    def open(self) -> bool:
        """No model answers in the slot just now."""
        return self._began < NEVER

    def begin(self, now: float, seconds_max: float) -> None:
        """The champion stops: a model must answer again within ``seconds_max``."""
        self._began = min(self._began, now)
        self.until = now + seconds_max

    def unbounded(self) -> None:
        """The candidate is given up; the gap lasts until the champion answers again."""
        self.until = NEVER

    def end(self, now: float) -> float | None:
        """Seconds it lasted, None when there was none."""
        seconds = now - self._began if self.open else None
        self._began = self.until = NEVER
        return seconds
