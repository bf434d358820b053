"""Probation: does the new champion serve as well as promised? Pure.

Time and counts accumulate over restarts of the agent. Latency is judged against the previous
model's 95th percentile on the same device, as far as it is more than noise.
"""

from dataclasses import dataclass
from typing import Any, Literal

from muster_agent.storage.rows import JournalRow
from muster_agent.update.table import Cause
from muster_agent.update.workers import Counts
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Probation

JUDGED_INFERENCES_MIN = 20
"""Rates and percentiles over fewer say nothing."""
LATENCY_NOISE_MS = 5.0
"""About a scheduler's time slice: a 95th percentile that is longer by less tells of what else the
device was doing, not of the model."""


@dataclass(frozen=True)
class Tally:
    """What a candidate has done while it was on probation."""

    seconds: float
    inferences: int
    errors: int

    def changes(self) -> dict[str, Any]:
        """Of the journal's row."""
        return {
            "probation_seconds": self.seconds,
            "probation_inferences": self.inferences,
            "probation_errors": self.errors,
        }


class Trial:
    """One stretch of a probation, from a swap to a commit, a fault or a restart."""

    def __init__(
        self,
        bounds: Probation,
        *,
        since: float,
        seconds: float,
        inferences: int,
        errors: int,
        champion: Counts | None,
    ) -> None:
        self._bounds = bounds
        self._since = since
        self._before = Tally(seconds, inferences, errors)
        self._counts = Counts()
        self._champion = champion

    @classmethod
    def of(cls, bounds: Probation, row: JournalRow, now: float, champion: Counts | None) -> "Trial":
        """What the journal's row says of the time before goes on from ``now``."""
        return cls(
            bounds,
            since=now,
            seconds=row.probation_seconds,
            inferences=row.probation_inferences,
            errors=row.probation_errors,
            champion=champion,
        )

    def deadline(self) -> float:
        """When time alone will have been served."""
        if self._served():
            return self._since + max(self._bounds.seconds - self._before.seconds, 0.0)
        return float("inf")

    def tally(self, now: float) -> Tally:
        """Its time, inferences and errors so far."""
        before, counts = self._before, self._counts
        return Tally(
            before.seconds + now - self._since,
            before.inferences + counts.inferences,
            before.errors + counts.errors,
        )

    def judge(
        self, counts: Counts, now: float
    ) -> Literal[Cause.PASSED] | tuple[Refusal, str] | None:
        """PASSED, a reason to roll back, or None: not yet."""
        self._counts = counts
        tally = self.tally(now)
        if tally.inferences >= JUDGED_INFERENCES_MIN:
            rate = tally.errors / tally.inferences
            if rate > self._bounds.error_rate_max:
                allowed = f"{self._bounds.error_rate_max:.1%} may"
                detail = f"{tally.errors} of {tally.inferences} inferences failed; {allowed}"
                return Refusal.PROBATION_ERRORS, detail
            if slow := self._too_slow(counts):
                return slow
        return Cause.PASSED if now >= self.deadline() else None

    def _served(self) -> bool:
        return self._before.inferences + self._counts.inferences >= self._bounds.inferences

    def _too_slow(self, counts: Counts) -> tuple[Refusal, str] | None:
        before = self._champion
        if before is None or not before.p95_ms or counts.p95_ms is None:
            return None
        if min(before.inferences, counts.inferences) < JUDGED_INFERENCES_MIN:
            return None
        ratio = counts.p95_ms / before.p95_ms
        longer_ms = counts.p95_ms - before.p95_ms
        if ratio <= self._bounds.latency_ratio_max or longer_ms < LATENCY_NOISE_MS:
            return None
        allowed = f"{self._bounds.latency_ratio_max:g} times may be"
        detail = (
            f"95th percentile {counts.p95_ms:.1f} ms is {ratio:.1f} times the previous model's; "
            f"{allowed}"
        )
        return Refusal.PROBATION_LATENCY, detail
