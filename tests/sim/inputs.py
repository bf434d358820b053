"""What a model is asked: numbers that stay as they were trained on, until a fault moves them.

An inference's number says its value, so a row that is read again after a crash is the same row.
Numbers that follow each other are spread over the whole distribution, so that windows differ less
than chance would have it: whether what moved is found hangs on the fleet, not on luck.
"""

from functools import cache
from statistics import NormalDist

import numpy as np

from muster_protocol.signals import baseline, binning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.features import Element, Feature, Floats

TENSOR = "x"
ROWS = 4_096
MOVED_BY = 4.0
"""In standard deviations: enough while a device is still learning what is normal for it."""
STEP = 0.6180339887498949
"""Of the golden section: its multiples fill the unit interval evenly, however many there are."""


@cache
def _quantiles() -> Floats:
    normal = NormalDist()
    return np.array([normal.inv_cdf((n + 0.5) / ROWS) for n in range(ROWS)], np.float32)


@cache
def trained() -> bytes:
    """The baseline file of a model that is watched for drift."""
    rows = {TENSOR: _quantiles()[:, None]}
    return baseline.encode(baseline.fit(rows, [Feature("load", Element(TENSOR, 0))]))


class Inputs:
    """Of one device."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.moved_from: int | None = None
        """The first inference whose input has moved; None while none has."""

    def move(self, number: int) -> None:
        if self.moved_from is None:
            self.moved_from = number

    def moved(self, numbers: list[int]) -> int:
        """How many of them have."""
        first = self.moved_from
        return 0 if first is None else sum(number >= first for number in numbers)

    def count(self, trained_on: Baseline, numbers: list[int]) -> FeatureCounts:
        rows = np.array(numbers, np.int64)
        values = _quantiles()[((rows * STEP + self._start) % 1.0 * ROWS).astype(np.int64)]
        if self.moved_from is not None:
            values = values + np.float32(MOVED_BY) * (rows >= self.moved_from)
        return binning.count(trained_on, {TENSOR: values.astype(np.float32)[:, None]})
