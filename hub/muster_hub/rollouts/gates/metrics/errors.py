"""Errors of inferences, of any kind. Pure."""

import math
from dataclasses import replace

from muster_hub.rollouts.gates.look import Look, Rates
from muster_hub.rollouts.gates.metric import Metric, Tolerances

NEGLIGIBLE = 0.001
"""Share of errors that matters to nobody, where a plan doesn't say."""
RULE = Metric(name="errors", scale=0.5, margin=math.log(1.5), negligible=NEGLIGIBLE)


class Errors:
    """Failed inferences out of all."""

    counts = ("errors", "inferences")

    def rule(self, plan: Tolerances) -> Metric:
        return replace(RULE, false_stop=plan.false_stop, negligible=plan.negligible_errors)

    def read(self, look: Look, _plan: Tolerances) -> Rates | None:
        return look.share("errors", "inferences")


METRIC = Errors()
