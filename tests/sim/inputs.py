"""What a model is asked: numbers that stay as they were trained on, until a fault moves them.

An inference's number says its value, so a row that is read again after a crash is the same row.
"""

from functools import cache

import numpy as np

from muster_protocol import baseline, binning
from muster_protocol.baseline import Baseline
from muster_protocol.binning import FeatureCounts
from muster_protocol.features import Element, Feature, Floats

TENSOR = "x"
TRAINED_ROWS = 2_000
MOVED_BY = 10.0
"""In standard deviations: enough while a device is still learning what is normal for it."""


@cache
def _drawn() -> Floats:
    return np.random.default_rng(7).normal(size=8_192).astype(np.float32)


@cache
def trained() -> bytes:
    """The baseline file of a model that is watched for drift."""
    rows = {TENSOR: _drawn()[:TRAINED_ROWS, None]}
    return baseline.encode(baseline.fit(rows, [Feature("load", Element(TENSOR, 0))]))


class Inputs:
    """Of one device."""

    def __init__(self, start: int) -> None:
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
        drawn, rows = _drawn(), np.array(numbers, np.int64)
        values = drawn[(rows + self._start) % len(drawn)]
        if self.moved_from is not None:
            values = values + np.float32(MOVED_BY) * (rows >= self.moved_from)
        return binning.count(trained_on, {TENSOR: values.astype(np.float32)[:, None]})
