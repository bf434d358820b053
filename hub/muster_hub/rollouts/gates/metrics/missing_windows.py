"""Windows that should have come and did not: a device that fell silent, or serves no more.

Pure.
"""

import math
from dataclasses import replace

from muster_hub.rollouts.gates.look import NO_SUMS, Look, Rates, Row, Sums
from muster_hub.rollouts.gates.metric import Metric, Tolerances

RULE = Metric(name="missing windows", scale=0.5, margin=math.log(1.5), negligible=0.02)


class MissingWindows:
    """Windows that should have come and did not."""

    counts = ()

    def rule(self, plan: Tolerances) -> Metric:
        return replace(RULE, false_stop=plan.false_stop)

    def read(self, look: Look, _plan: Tolerances) -> Rates | None:
        def row(device: str) -> Row:
            new, old = look.now.get(device, NO_SUMS), look.past.get(device, NO_SUMS)
            expected = look.expected[device]
            known = look.past_expected if old.seconds else 0.0
            return (
                _missing(new, expected, look.window_seconds), expected,
                _missing(old, known, look.window_seconds), known,
            )  # fmt: skip

        return look.rates(row)


METRIC = MissingWindows()


def _missing(sums: Sums, expected: float, window_seconds: float) -> float:
    return min(max(expected - sums.seconds / window_seconds, 0.0), expected)
