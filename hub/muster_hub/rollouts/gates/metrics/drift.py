"""Features that drift, out of those watched. Pure."""

import math
from dataclasses import replace

from muster_hub.rollouts.gates.look import Look, Rates, Row
from muster_hub.rollouts.gates.metric import Metric, Tolerances

RULE = Metric(name="drifting features", scale=1.0, margin=math.log(2.0), part="stop")
"""Zero of them can't be shown to be no more than twice as many: it never holds a wave back."""


class Drift:
    """How many of the watched features drift."""

    counts = ()

    def rule(self, plan: Tolerances) -> Metric:
        return replace(RULE, false_stop=plan.false_stop)

    def read(self, look: Look, _plan: Tolerances) -> Rates | None:
        """A device's own past is not told apart: chance drew the canaries, so as many of them
        drifted before as of the controls."""
        features = look.source.drifting()

        def row(device: str) -> Row:
            drifting, watched = features.get(device, (0, 0))
            return drifting, watched, 0.0, 0.0

        return look.rates(row)


METRIC = Drift()
