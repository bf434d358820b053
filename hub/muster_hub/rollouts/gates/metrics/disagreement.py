"""Answers of a challenger that differ from the champion's on the same inputs. Pure."""

import numpy as np

from muster_hub.rollouts.gates.look import Look, Pairs
from muster_hub.rollouts.gates.metric import Metric, Tolerances
from muster_hub.rollouts.gates.statistics import Changes


class Disagreement:
    """How often a challenger answers differently from the champion."""

    counts = ()

    def rule(self, plan: Tolerances) -> Metric:
        most = plan.disagreement_max
        return Metric(
            name="disagreement", scale=most, margin=most, limit=most, unit="points",
            part="warn", false_stop=plan.false_stop,
        )  # fmt: skip

    def read(self, look: Look, plan: Tolerances) -> Pairs | None:
        """How far each device is above what the plan tolerates."""
        shares = look.source.disagreement()
        if len(shares) < 2:
            return None
        answers = np.array(shares, np.float64)
        over = answers[:, 0] - plan.disagreement_max
        return Pairs(Changes(over, np.zeros(len(over), np.intp), 0.0, answers[:, 1]))


METRIC = Disagreement()
