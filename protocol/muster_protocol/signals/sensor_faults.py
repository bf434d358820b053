"""Faults of sensors by name, from counts alone.

Two kinds of evidence. What a healthy signal never does is looked for in every window, whatever the
charts say: values that stand still (*stuck*), a maximum or minimum that repeats while the training
data goes beyond it (*clipped*), values that stop coming (*dropped out*). What else a chart finds is
compared with what known faults do: the same values in another unit (*unit changed*), a few far
outliers around an unmoved bulk (*spiking*), the same level with more spread (*noisy*).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals import charts, vectors
from muster_protocol.signals.baseline import EDGES, SHARE_ONE, Baseline
from muster_protocol.signals.binning import FeatureCounts
from muster_protocol.signals.rule import Fault
from muster_protocol.signals.timeline import Normal
from muster_protocol.signals.vectors import Layout

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
CAPPED_FACTOR = 2
CAPPED_WINDOWS_MIN = 4
CAPPED_ROWS_EXPECTED = 14.0
"""Rows beyond the cap that independent rows would have brought: none came with chance e^-14."""
CAPPED_BEYOND_MIN = 0.02
"""Of training, beyond the cap."""
MISSING_FACTOR = 2
MISSING_MARGIN = 0.1
DROPPED_SHARE = 0.9
SPIKES_SHARE_MAX = 0.25
SPIKES_EXCESS_MIN = 0.01
BULK_SHIFT_MAX = 0.15
"""How far the rank of the bulk's middle may have moved from ½."""
BULK_MIDDLE_MIN = 0.42
"""Share of the bulk between training's quartiles, half of it when only outliers have come."""
NOISE_RATIO_MIN = 1.25
NOISE_LEVEL_MAX = 0.5
"""In training standard deviations."""
UNIT_SHIFT_MIN = 4.0
"""Standard deviations: a smaller step is no change of unit."""
UNIT_LEVEL_TOLERANCE = 0.75
UNIT_VARIATION_MAX = 0.2
"""Standard deviation over level, once converted: what varies more fits any conversion."""
UNIT_SPREAD_TOLERANCE = 1.7
SMOOTHING = 0.3
CONVERSIONS: tuple[tuple[str, float, float], ...] = (
    ("× 1.8 + 32 (°C read as °F)", 1.8, 32.0),
    ("(x − 32) / 1.8 (°F read as °C)", 1 / 1.8, -32 / 1.8),
    ("+ 273.15 (°C read as K)", 1.0, 273.15),
    ("− 273.15 (K read as °C)", 1.0, -273.15),
    ("× 1000", 1000.0, 0.0),
    ("/ 1000", 1e-3, 0.0),
    ("× 100", 100.0, 0.0),
    ("/ 100", 1e-2, 0.0),
    ("× 10", 10.0, 0.0),
    ("/ 10", 0.1, 0.0),
    ("× 14.504 (bar read as psi)", 14.5038, 0.0),
    ("/ 14.504 (psi read as bar)", 1 / 14.5038, 0.0),
    ("× 6.895 (psi read as kPa)", 6.89476, 0.0),
    ("/ 6.895 (kPa read as psi)", 1 / 6.89476, 0.0),
    ("× 25.4 (inch read as mm)", 25.4, 0.0),
    ("/ 25.4 (mm read as inch)", 1 / 25.4, 0.0),
    ("× 60", 60.0, 0.0),
    ("/ 60", 1 / 60, 0.0),
    ("× 3.6 (m/s read as km/h)", 3.6, 0.0),
    ("/ 3.6 (km/h read as m/s)", 1 / 3.6, 0.0),
    ("× −1", -1.0, 0.0),
)


@dataclass(eq=False)
class Habits:
    """What is remembered of a device to see these faults: O(features)."""

    lately: Doubles
    """[features, width]: counts, each window weighing 0.7 of the next."""
    missing: Doubles
    """[features]: smoothed share."""
    extremes: Doubles
    """[2, numeric]: maximum and minimum of the last window."""
    capped: Doubles
    """[2, numeric]: windows in a row with this maximum, minimum."""
    capped_rows: Doubles
    """[2, numeric]: rows in those windows."""
    still: Doubles
    """[numeric]: rows in a row with the same value."""

    @classmethod
    def none(cls, baseline: Baseline) -> "Habits":
        """Nothing was seen of the device yet."""
        numeric = len(baseline.extractor.numeric)
        return cls(
            np.zeros((len(baseline), baseline.width)), np.zeros(len(baseline)),
            np.full((2, numeric), np.nan), np.zeros((2, numeric)), np.zeros((2, numeric)),
            np.zeros(numeric),
        )  # fmt: skip

    def add(self, counts: FeatureCounts) -> None:
        """Take in one window."""
        numeric = counts.baseline.extractor.numeric
        values = counts.values[numeric].astype(np.float64)
        self.lately = (1 - SMOOTHING) * self.lately + counts.bins
        self.missing = vectors.missing_share(self.missing, counts)
        extremes = np.stack([counts.high[numeric], counts.low[numeric]])
        same = vectors.same_extreme(counts.baseline.mean[numeric], self.extremes, extremes)
        came = values > 0
        self.capped = np.where(came, np.where(same, self.capped + 1, 1), self.capped)
        self.capped_rows = np.where(
            came, np.where(same, self.capped_rows, 0) + values, self.capped_rows
        )
        flat = counts.variance[numeric] == 0
        still = np.where(flat, np.where(same.all(axis=0), self.still, 0) + values, 0.0)
        self.still = np.where(came, still, self.still)
        self.extremes = np.where(came, extremes, self.extremes)


def stuck(habits: Habits, normal: Normal) -> Flags:
    """[numeric]: values stand still for longer than training lets one expect."""
    return np.asarray(habits.still >= normal.still)


def clipped(habits: Habits, normal: Normal, layout: Layout) -> Flags:
    """[2, numeric]: the maximum, the minimum repeats although training goes well beyond it."""
    most = np.maximum(CAPPED_FACTOR * normal.capped + 2, CAPPED_WINDOWS_MIN)
    repeats = habits.capped >= most
    if not repeats.any():
        return repeats
    numeric = len(layout.numeric)
    carry = np.minimum(normal.carry[:numeric], charts.PHI_MAX)
    alike = np.square(normal.spreads[0][:numeric]) * normal.file.rows * (1 + carry) / (1 - carry)
    worth = habits.capped_rows / np.maximum(alike, 1.0)
    beyond = _beyond(habits.extremes, layout)
    enough = (beyond >= CAPPED_BEYOND_MIN) & (beyond * worth >= CAPPED_ROWS_EXPECTED)
    return np.asarray(repeats & enough & ~(habits.still > 0))


def _beyond(extremes: Doubles, layout: Layout) -> Doubles:
    """[2, numeric]: share of training in bins wholly above a maximum, below a minimum."""
    edges, shares = layout.baseline.edges, layout.baseline.shares[layout.numeric] / SHARE_ONE
    beyond = np.zeros_like(extremes)
    for place, (high, low) in enumerate(extremes.T.tolist()):
        above = int(np.searchsorted(edges[place], high, side="right")) + 1
        below = int(np.searchsorted(edges[place], low, side="right"))
        beyond[0, place] = shares[place, above : EDGES + 1].sum()
        beyond[1, place] = shares[place, :below].sum()
    return beyond


def missing(habits: Habits, normal: Normal) -> Flags:
    """[features]: more values are missing than training ever missed."""
    return np.asarray(habits.missing > MISSING_FACTOR * normal.missing + MISSING_MARGIN)


def name(
    habits: Habits, normal: Normal, layout: Layout, place: int, counts: FeatureCounts
) -> tuple[Fault, str]:
    """What a numeric feature's finding is called, and by what; ``place`` among the numeric ones.

    ("", "") where the evidence names no fault of a sensor.
    """
    feature = int(layout.numeric[place])
    n, unit = float(counts.values[feature]), float(layout.units[place])
    mean = layout.baseline.bins[feature].mean
    if n < vectors.SPREAD_ROWS_MIN:
        return "", ""
    offset = float(counts.total[feature] / n)
    spread = float(np.sqrt(counts.variance[feature]))
    usual = max(_usual_spread(normal, place, len(layout.numeric)) * unit, 1e-12)
    words = _conversion(mean, unit, offset, spread, usual)
    if words:
        return "unit changed", words
    if _spikes(habits.lately[feature], layout, feature):
        return "spiking", ""
    noisy = spread >= NOISE_RATIO_MIN * usual and abs(offset) <= NOISE_LEVEL_MAX * unit
    return ("noisy", "") if noisy else ("", "")


def _usual_spread(normal: Normal, place: int, numeric: int) -> float:
    """A window's usual standard deviation, in training standard deviations."""
    of_windows = next((chart for chart in normal.charts if not chart.file.relations), None)
    if of_windows is None:
        return 1.0
    return float(np.exp(of_windows.mean[numeric + place]) - vectors.SPREAD_OFFSET)


def _conversion(mean: float, unit: float, offset: float, spread: float, usual: float) -> str:
    """The change of unit that both the level and the spread of a window show."""
    if abs(offset) < UNIT_SHIFT_MIN * unit:
        return ""
    best, words = np.inf, ""
    for words_of_it, factor, shift in CONVERSIONS:
        expected = factor * mean + shift - mean
        size = abs(factor)
        off = abs(offset - expected) / (size * unit)
        ratio = spread / (size * usual)
        fits = (
            off <= UNIT_LEVEL_TOLERANCE
            and 1 / UNIT_SPREAD_TOLERANCE <= ratio <= UNIT_SPREAD_TOLERANCE
        )
        steady = size * unit <= UNIT_VARIATION_MAX * abs(factor * mean + shift)
        far = steady and abs(expected) >= UNIT_SHIFT_MIN * unit
        if fits and far and off + abs(np.log(ratio)) < best:
            best, words = off + abs(float(np.log(ratio))), words_of_it
    return words


def _spikes(lately: Doubles, layout: Layout, feature: int) -> bool:
    """Few far outliers around a bulk that has not moved."""
    total = float(lately.sum())
    if total <= 0:
        return False
    shares = lately / total
    normal = layout.baseline.shares[feature] / SHARE_ONE
    far = float(shares[0] + shares[EDGES])
    if not normal[0] + normal[EDGES] + SPIKES_EXCESS_MIN < far <= SPIKES_SHARE_MAX:
        return False
    inner, ranks = shares[1:EDGES], np.cumsum(normal)[1:EDGES] - normal[1:EDGES] / 2
    if inner.sum() <= 0:
        return False
    middle = float(inner @ ranks / inner.sum())
    between = float(inner[(ranks > 0.25) & (ranks < 0.75)].sum() / inner.sum())
    return abs(middle - 0.5) <= BULK_SHIFT_MAX and between >= BULK_MIDDLE_MIN
