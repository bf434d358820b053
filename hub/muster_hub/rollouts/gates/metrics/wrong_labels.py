"""Labels that came later and say that the model was wrong. Pure."""

import math
from dataclasses import replace

from muster_hub.rollouts.gates.look import Look, Rates
from muster_hub.rollouts.gates.metric import Metric, Tolerances

RULE = Metric(name="wrong labels", scale=0.5, margin=math.log(1.5), negligible=0.005)


class WrongLabels:
    """Wrong answers out of those whose label came."""

    counts = ("labels_right", "labels_wrong")

    def rule(self, plan: Tolerances) -> Metric:
        return replace(RULE, false_stop=plan.false_stop)

    def read(self, look: Look, _plan: Tolerances) -> Rates | None:
        return look.share("labels_wrong", "labels_right", "labels_wrong")


METRIC = WrongLabels()
