"""What training looked like in time: the part of a baseline that format 2 adds.

A baseline's bins forget the order of the training rows. A window of a slow signal is narrower than
all of training and stands off its mean, which is no drift; only training windows in their order
show how far windows differ from each other when nothing is wrong. This block keeps that, as a few
numbers a feature: control charts fitted on training windows (``charts``), what is normal at which
hour of the week and in which regime, and what a sensor at fault would break.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
SCALES = (1, 3, 12)
"""Windows averaged for the table of spreads."""
HOURS = 168
"""Of a week, Monday 00:00 UTC first."""
PROJECTIONS_MAX = 8
AXES_MAX = 16
CHARTS_MAX = 16
WARMING_WINDOWS = 64
"""After so many windows a level is known as well as it ever will be."""
REGIMES_MAX = 32
VECTOR_MAX = 16_384
SHARES_MAX = 8
"""Bins of a category that are followed one by one: its first few after the most frequent."""
Natural = Annotated[int, Meta(ge=0, le=2**53)]
Flags = NDArray[np.bool_]
Falling = Literal["logarithm", "cube root"]
"""By what a spread that falls is counted: its logarithm, as in baselines before there was a choice,
or the cube root of its variance (``charts.evened``)."""


class ChartFile(Struct, frozen=True, array_like=True):
    """A control chart as written in the file; arrays are little-endian float32."""

    relations: bool
    """Of the projections' spreads; otherwise of the features' levels, spreads and shares."""
    smoothing: Annotated[float, Meta(gt=0, le=1)]
    """λ of an exponentially weighted mean; 1: of what a window brings beyond the one before it."""
    largest: bool
    """Tests the largest deviation; otherwise Hotelling's T²."""
    mean: bytes
    carry: bytes
    """Lag-1 regression of each number of the vector; empty when nothing is carried over."""
    spread: bytes
    axes: bytes
    """[axes, numbers]: leading eigenvectors of the deviations' shrunk correlation."""
    weights: bytes
    """[axes + 1]: their eigenvalues, then the mean of the others."""
    center: float
    """Median, in training windows out of sample, of the log of the statistic over its dimension."""
    scale: float
    """Root mean square of what lies above that median."""
    freedom: Annotated[float, Meta(ge=1)]
    """Degrees of freedom behind ``scale``: windows are worth fewer independent ones."""
    top: float
    """The largest value in training, out of sample."""
    gain: bytes = b""
    """How much of what a window brings lasts, beside ``carry``; empty where all of it does."""
    falling: Falling = "logarithm"


class Regime(Struct, frozen=True, array_like=True):
    """What is normal while the context feature has this category."""

    bin: Natural
    windows: Natural
    center: bytes
    """float32 [numbers], to be taken from a window's vector."""
    ratio: bytes
    """float32 [numbers]: spread in this regime over that of all of them."""


class Timeline(Struct, frozen=True, array_like=True):
    """The block of the file."""

    rows: Annotated[int, Meta(ge=1, le=2**38)]
    """Rows of each training window."""
    window_seconds: Annotated[float, Meta(ge=0)]
    """0 when it is not known."""
    windows: Annotated[int, Meta(ge=1, le=2**38)]
    """Training windows."""
    projections: bytes
    """float32 [projections, numeric features], of values in training standard deviations."""
    charts: Annotated[tuple[ChartFile, ...], Meta(max_length=CHARTS_MAX)]
    spreads: bytes
    """float32 [3, numbers]: standard deviation of the mean of 1, 3 and 12 windows."""
    carry: bytes
    """float32 [numbers]: correlation of each window with the one before it."""
    still: bytes
    """float32 [numeric features]: rows in a row with the same value, from which on it is stuck."""
    capped: bytes
    """float32 [2, numeric features]: most windows in a row with the same maximum, minimum."""
    missing: bytes
    """float32 [features]: largest share of missing values, smoothed over windows."""
    profile: bytes = b""
    """float32 [168, numbers], what is normal at each hour of the week; empty when not known."""
    context: int = -1
    """Feature whose category tells the regime; −1: none."""
    regimes: Annotated[tuple[Regime, ...], Meta(max_length=REGIMES_MAX)] = ()


@dataclass(frozen=True, eq=False)
class Chart:
    """A control chart ready for use; see ``charts`` for what it does."""

    file: ChartFile
    mean: Doubles
    carry: Doubles
    """[numbers]; zeros when nothing is carried over."""
    spread: Doubles
    axes: Doubles
    weights: Doubles
    gain: Doubles
    """[numbers]; ones when all of what a window brings is carried over."""
    evened: Flags
    """[numbers]: spreads that fall by the cube root of their variance."""

    @cached_property
    def warming(self) -> tuple[Doubles, Doubles]:
        """[windows, numbers] each: gain, and variance of what a window brings over its steady one,
        in the first windows of a life, when the level isn't known yet."""
        carry, gain = self.carry, self.gain
        noise, kicks = 1 - gain, gain - np.square(carry) * gain * (1 - gain)
        unsure = kicks / (1 - np.square(carry))
        gains, variances = [], []
        for _ in range(WARMING_WINDOWS):
            variances.append(unsure + noise)
            gains.append(unsure / variances[-1])
            unsure = np.square(carry) * unsure * noise / variances[-1] + kicks
        return np.array(gains), np.array(variances)

    @cached_property
    def inverse(self) -> Doubles:
        """One over each weight."""
        return np.asarray(1 / self.weights)

    @cached_property
    def left(self) -> Doubles:
        """[numbers]: share of a lasting offset that what windows bring goes on to show."""
        return np.asarray((1 - self.carry) / (1 - self.carry * (1 - self.gain)))

    @cached_property
    def innovations(self) -> bool:
        """Whether the chart looks at what a window brings beyond the one before it, unsmoothed."""
        return self.file.smoothing == 1.0


@dataclass(frozen=True, eq=False)
class Normal:
    """A checked timeline as arrays."""

    file: Timeline
    numeric: int
    numbers: int
    """Length of a window's vector."""

    @cached_property
    def projections(self) -> Doubles:
        """[projections, numeric features]"""
        return unpacked(self.file.projections).reshape(-1, max(self.numeric, 1))

    @cached_property
    def charts(self) -> tuple[Chart, ...]:
        """Charts that a window is held against, ready for use."""
        return tuple(_chart(chart, self.numeric) for chart in self.file.charts)

    @cached_property
    def spreads(self) -> Doubles:
        """Standard deviation of the mean of 1, 3 and 12 windows, [scales, numbers]."""
        return unpacked(self.file.spreads).reshape(len(SCALES), self.numbers)

    @cached_property
    def carry(self) -> Doubles:
        """Correlation of each window with the one before it, [numbers]."""
        return unpacked(self.file.carry)

    @cached_property
    def still(self) -> Doubles:
        """Rows in a row with one value from which on a sensor is stuck, [numeric features]."""
        return unpacked(self.file.still)

    @cached_property
    def capped(self) -> Doubles:
        """Most windows in a row with the same maximum, and minimum, [2, numeric features]."""
        return unpacked(self.file.capped).reshape(2, self.numeric)

    @cached_property
    def missing(self) -> Doubles:
        """Largest share of missing values in training, smoothed over windows, [features]."""
        return unpacked(self.file.missing)

    @cached_property
    def profile(self) -> Doubles | None:
        """What is normal at each hour of the week, [168, numbers]; None when not known."""
        return (
            unpacked(self.file.profile).reshape(HOURS, self.numbers) if self.file.profile else None
        )

    @cached_property
    def regimes(self) -> dict[int, tuple[Doubles, Doubles]]:
        """Center and ratio by bin of the context feature."""
        return {
            regime.bin: (unpacked(regime.center), unpacked(regime.ratio))
            for regime in self.file.regimes
        }

    @cached_property
    def within(self) -> Doubles:
        """[numbers]: share of a window's variance that shrinks as 1/rows."""
        whole, part = np.square(self.spreads[0]), np.square(self.spreads[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (whole - part) / (1 - 1 / SCALES[1]) / whole
        return np.asarray(np.clip(np.nan_to_num(share, nan=1.0), 0.0, 1.0))


def packed(array: NDArray[Any]) -> bytes:
    """Little-endian float32, as files hold numbers."""
    return array.astype("<f4").tobytes()


def unpacked(data: bytes) -> Doubles:
    """The numbers that ``packed`` packed, as float64."""
    return np.frombuffer(data, "<f4").astype(np.float64)


def _chart(file: ChartFile, numeric: int) -> Chart:
    mean = unpacked(file.mean)
    evened = np.zeros(len(mean), np.bool_)
    if file.falling == "cube root":
        evened[slice(None) if file.relations else slice(numeric, 2 * numeric)] = True
    carry = unpacked(file.carry) if file.carry else np.zeros(len(mean))
    axes = unpacked(file.axes).reshape(-1, max(len(mean), 1))
    gain = unpacked(file.gain) if file.gain else np.ones(len(mean))
    spread, weights = unpacked(file.spread), unpacked(file.weights)
    return Chart(file, mean, carry, spread, axes, weights, gain, evened)


def checked(
    file: Timeline, *, features: int, numeric: int, numbers: int, bins: dict[int, int]
) -> Normal:
    """The timeline as arrays; raises ProtocolError when a size or number can't be.

    ``bins``: how many bins each feature has that may tell the regime, by feature.
    """
    relations = len(unpacked(_whole(file.projections))) // max(numeric, 1)
    want = {
        "projections": (file.projections, relations * numeric),
        "spreads": (file.spreads, len(SCALES) * numbers),
        "carry": (file.carry, numbers),
        "still": (file.still, numeric),
        "capped": (file.capped, 2 * numeric),
        "missing": (file.missing, features),
        "profile": (file.profile, HOURS * numbers if file.profile else 0),
    }
    for place, chart in enumerate(file.charts):
        length = relations if chart.relations else numbers
        axes = len(chart.axes) // 4 // max(length, 1)
        want |= {
            f"chart {place}: mean": (chart.mean, length),
            f"chart {place}: carry": (chart.carry, length if chart.carry else 0),
            f"chart {place}: gain": (chart.gain, length if chart.gain else 0),
            f"chart {place}: spread": (chart.spread, length),
            f"chart {place}: axes": (chart.axes, axes * length),
            f"chart {place}: weights": (chart.weights, axes + 1),
        }
        _check_chart(place, chart, axes)
    for regime in file.regimes:
        if regime.bin >= bins.get(file.context, 0):
            raise ProtocolError(f"baseline timeline: no bin {regime.bin} tells a regime")
        want |= {
            f"regime {regime.bin}: center": (regime.center, numbers),
            f"regime {regime.bin}: ratio": (regime.ratio, numbers),
        }
        if (unpacked(_whole(regime.ratio)) <= 0).any():
            raise ProtocolError(f"baseline timeline: regime {regime.bin} has a spread of nothing")
    if numbers > VECTOR_MAX or relations > PROJECTIONS_MAX:
        raise ProtocolError(f"baseline timeline: {numbers} numbers and {relations} projections")
    for what, (data, length) in want.items():
        if len(data) != 4 * length or not np.isfinite(unpacked(data)).all():
            raise ProtocolError(f"baseline timeline: {what} needs {length} finite numbers")
    return Normal(file, numeric, numbers)


def _check_chart(place: int, chart: ChartFile, axes: int) -> None:
    numbers = [chart.center, chart.scale, chart.freedom, chart.top]
    if axes > AXES_MAX or not np.isfinite(numbers).all():
        raise ProtocolError(f"baseline timeline: chart {place} is not a valid chart")
    spread, weights = unpacked(_whole(chart.spread)), unpacked(_whole(chart.weights))
    if (spread <= 0).any() or (weights <= 0).any():
        raise ProtocolError(f"baseline timeline: chart {place} has a spread of nothing")
    carry, gain = unpacked(_whole(chart.carry)), unpacked(_whole(chart.gain))
    if not ((np.abs(carry) < 1).all() and (gain > 0).all() and (gain <= 1).all()):
        raise ProtocolError(f"baseline timeline: chart {place} never forgets")


def _whole(data: bytes) -> bytes:
    return data[: len(data) // 4 * 4]
