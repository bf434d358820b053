"""Late demotion: does a committed model still do what it was committed for? Pure.

Only what the model itself does counts, never what its surroundings lack: memory, space, a runtime.
"""

from msgspec import UNSET

from muster_agent.update.processes import Counts
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Demotion, Manifest

CRASHES = 5
"""Deaths in a row, none of them after a minute of service, that make a crash loop."""
WINDOW_INFERENCES = 200
"""Error rates are judged over so many inferences; two windows in a row must be too bad."""
_ITS_OWN = frozenset({
    Refusal.WORKER_DIED, Refusal.LOAD_FAILED, Refusal.GOLDEN_MISMATCH, Refusal.START_TIMEOUT,
})  # fmt: skip


def crash_loop(
    listing: Manifest, refusal: Refusal, detail: str, failures: int
) -> tuple[Refusal, str] | None:
    """The evidence against a model that died for the ``failures``-th time in a row, or None."""
    if not _policy(listing).crash_loop or refusal not in _ITS_OWN or failures < CRASHES:
        return None
    return Refusal.CRASH_LOOP, f"died {failures} times in a row after its probation: {detail}"


class Errors:
    """The error rate of a committed model, window by window."""

    def __init__(self) -> None:
        self._from = Counts()
        self._bad: list[str] = []

    def due(self, counts: Counts) -> bool:
        """Whether enough inferences passed since the last look, or the counts began anew."""
        return not 0 <= counts.inferences - self._from.inferences < WINDOW_INFERENCES

    def look(self, listing: Manifest, counts: Counts) -> tuple[Refusal, str] | None:
        """The evidence against the model whose worker has counted so far, or None."""
        most = _policy(listing).error_rate_max
        if counts.inferences < self._from.inferences:
            self._from = Counts()  # A worker of its own: it counts from nothing.
        inferences = counts.inferences - self._from.inferences
        if inferences < WINDOW_INFERENCES:
            return None
        errors = counts.errors - self._from.errors
        self._from = counts
        if most is None or errors <= most * inferences:
            self._bad.clear()
            return None
        self._bad.append(f"{errors} of {inferences}")
        if len(self._bad) < 2:
            return None
        counted = " and ".join(self._bad[-2:])
        return (
            Refusal.LATE_ERRORS,
            f"{counted} inferences failed after its probation; {most:.1%} may",
        )


def _policy(listing: Manifest) -> Demotion:
    return Demotion() if listing.demotion is UNSET else listing.demotion
