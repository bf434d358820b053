"""A metric of a gate: the rule it is judged by, and what is read for it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from muster_hub.rollouts.gates import words
from muster_hub.rollouts.gates.look import Look, Reading

Part = Literal["gate", "stop", "warn"]
"""What a metric may do: stop and hold back; stop only; or only be told to the operator."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One thing watched. ``scale`` is the size of harm to look for, ``margin`` what is tolerated.

    Both are logs of ratios, or points of a share, or plain differences, by ``unit``.
    """

    name: str
    scale: float
    margin: float
    false_stop: float = 0.01
    """Chance of a stop by this metric, over the whole rollout, when nothing is wrong."""
    unit: words.Unit = "ratio"
    part: Part = "gate"
    limit: float = 0.0
    """Of a share that is compared with nobody's: what is tolerated. Harm is what is above it."""
    negligible: float = 0.0
    """Of rates: surely below this it is no worse, whatever it is a multiple of; 0: nothing is."""


class Tolerances(Protocol):
    """What a plan's gate says of its metrics."""

    @property
    def false_stop(self) -> float:
        """Chance of a false stop that the operator accepts for each metric."""
        ...

    @property
    def negligible_errors(self) -> float:
        """An error rate below this needs no ratio."""
        ...

    @property
    def disagreement_max(self) -> float:
        """Share of answers that may differ without a warning."""
        ...


class GateMetric(Protocol):
    """A metric as the registry holds it."""

    @property
    def counts(self) -> Sequence[str]:
        """Counts of ``summary.Tally`` that it reads, each device's sums of which it is given."""
        ...

    def rule(self, plan: Tolerances, /) -> Metric:
        """How it is judged under a plan."""
        ...

    def read(self, look: Look, plan: Tolerances, /) -> Reading | None:
        """What was received; None before both sides have told enough to compare."""
        ...
