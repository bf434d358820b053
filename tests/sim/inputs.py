"""What a model is asked: numbers that stay as they were trained on, until a fault moves them.

An inference's number says its value, so a row that is read again after a crash is the same row.
Numbers that follow each other are spread over the whole distribution, so that windows differ less
than chance would have it: whether what moved is found hangs on the fleet, not on luck.
"""

from functools import cache
from statistics import NormalDist

import numpy as np

from muster_protocol.signals import baseline, binning, learning
from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.features import Element, Feature, Floats
from muster_protocol.signals.learning import InTime

TENSOR = "x"
LOAD, HEAT = "load", "heat"
ROWS = 4_096
TRAINING_WINDOWS, WINDOW_ROWS = 150, 20
MOVED_BY = 4.0
"""In standard deviations: enough to show in a window of few rows."""
STEPS = (0.6180339887498949, 0.41421356237309515)
"""Of the golden and the silver section: multiples fill the unit square evenly, however many."""


@cache
def _quantiles() -> Floats:
    normal = NormalDist()
    return np.array([normal.inv_cdf((n + 0.5) / ROWS) for n in range(ROWS)], np.float32)


@cache
def trained() -> bytes:
    """The baseline file, in time, of a model that is watched for drift."""
    rows = np.random.default_rng(0).normal(size=(TRAINING_WINDOWS * WINDOW_ROWS, 2))
    features = [Feature(name, Element(TENSOR, place)) for place, name in enumerate((LOAD, HEAT))]
    tensors = {TENSOR: rows.astype(np.float32)}
    return baseline.encode(learning.fit(tensors, features, InTime(WINDOW_ROWS, 25.0)))


class Inputs:
    """Of one device."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.moved_from: int | None = None
        """The first inference whose load has moved; None while none has."""
        self.hot_from: int | None = None
        """The first inference whose heat has; None while none has."""
        self.hot_until: int | None = None
        """The first one whose heat is as it was again."""

    def move(self, number: int) -> None:
        if self.moved_from is None:
            self.moved_from = number

    def heat(self, number: int) -> None:
        self.hot_from = number

    def cool(self, number: int) -> None:
        if self.hot_from is not None:
            self.hot_until = max(number, self.hot_from)

    def wiped(self) -> None:
        """Inferences are counted from 1 again; what has moved stays so."""
        if self.moved_from is not None:
            self.moved_from = 1
        if self.hot_from is not None:
            self.hot_from, self.hot_until = 1, self.hot_until and 1

    def moved(self, numbers: list[int]) -> int:
        """How many of them have a load that has moved."""
        first = self.moved_from
        return 0 if first is None else sum(number >= first for number in numbers)

    def hot(self, numbers: list[int]) -> int:
        """How many of them are hot."""
        if self.hot_from is None:
            return 0
        end = self.hot_until if self.hot_until is not None else np.inf
        return sum(self.hot_from <= number < end for number in numbers)

    def count(self, trained_on: Baseline, numbers: list[int]) -> FeatureCounts:
        rows = np.array(numbers, np.int64)
        values = np.stack([self._even(rows, step) for step in STEPS], axis=1)
        moved = [[self.moved([number]), self.hot([number])] for number in numbers]
        values += np.float32(MOVED_BY) * np.array(moved, np.float32).reshape(-1, 2)
        return binning.count(trained_on, {TENSOR: values.astype(np.float32)})

    def _even(self, rows: np.ndarray, step: float) -> Floats:
        return _quantiles()[((rows * step + self._start) % 1.0 * ROWS).astype(np.int64)]
