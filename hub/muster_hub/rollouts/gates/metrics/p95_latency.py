"""Latency: each device's mean logarithm of its windows' 95 % quantile, against its own past.

Pure.
"""

import math
from dataclasses import replace

from muster_hub.rollouts.gates.look import NO_SUMS, Change, Look, Shifts, of_both
from muster_hub.rollouts.gates.metric import Metric, Tolerances

RULE = Metric(name="p95 latency", scale=0.2, margin=math.log(1.1))


class P95Latency:
    """Change of each device's 95th percentile of latency."""

    counts = ()

    def rule(self, plan: Tolerances) -> Metric:
        return replace(RULE, false_stop=plan.false_stop)

    def read(self, look: Look, _plan: Tolerances) -> Shifts | None:
        def change(device: str) -> Change | None:
            new, old = look.now.get(device, NO_SUMS), look.past.get(device, NO_SUMS)
            if not (new.windows and old.windows):
                return None
            return Change(
                new.latency - old.latency,
                new.latency_noise + old.latency_noise,
                of_both(new.windows, old.windows),
            )

        return look.shifts(change)


METRIC = P95Latency()
