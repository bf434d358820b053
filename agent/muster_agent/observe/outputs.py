"""Does a candidate answer differently from the model before it? Pure.

Both are measured against what their own training said they would answer, so that two versions with
other bins, or other classes, stay comparable; inputs that moved are not blamed on the candidate,
for they move the champion's answers too.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from muster_protocol.signals import divergence
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.divergence import FeatureStatistics

ROWS_MIN = 200
"""Fewer say nothing about a distribution."""
EFFECT = 0.25
"""Bias-corrected PSI that is large by any standard; what the candidate must exceed."""
FACTOR = 2.0
"""And by so much the champion's own."""
P_VALUE_MAX = 1e-6


@dataclass(frozen=True)
class Answers:
    """What a model has answered lately."""

    counts: FeatureCounts
    features: AbstractSet[str]
    """Names of those that are of outputs."""

    def measured(self) -> list[FeatureStatistics]:
        """Statistics of the outputs that have rows to judge."""
        statistics = divergence.statistics(self.counts)
        return [
            statistic
            for statistic in statistics
            if statistic.name in self.features and statistic.n >= ROWS_MIN
        ]


def shifted(candidate: Answers | None, champion: Answers | None) -> str:
    """Evidence that the candidate's answers are not those it was released with, or nothing.

    Without enough rows of both there is no comparison.
    """
    if candidate is None or champion is None:
        return ""
    before = [output.psi_corrected for output in champion.measured()]
    if not before:
        return ""
    limit = max(EFFECT, FACTOR * max(before))
    worst = max(
        (
            output
            for output in candidate.measured()
            if output.p_value <= P_VALUE_MAX and output.psi_corrected > limit
        ),
        key=lambda output: output.psi_corrected,
        default=None,
    )
    if worst is None:
        return ""
    return (
        f"{worst.name}: answers moved by {worst.psi_corrected:.2f} (PSI over {worst.n} rows) from "
        f"those of its training; the previous model's by {max(before):.2f}, {limit:.2f} may be"
    )
