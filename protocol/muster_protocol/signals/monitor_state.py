"""What a drift monitor remembers between windows, and its bytes."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.calibration import Fit, LevelFit
from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Naturals = NDArray[np.uint32]
Places = NDArray[np.intp]
FORMAT = 1
STATE_BYTES_MAX = 256 * limits.MIB
"""Inflated: a thousand features with a week's calibration windows."""


class Status(IntEnum):
    """How a feature is judged."""

    CALIBRATING = 0
    """Compared with training until enough of the device's own windows are known."""
    CALIBRATED = 1
    """Compared with what is normal on this device."""
    REFUSED = 2
    """Calibration found the feature beyond the effect gate: still judged by the reference."""


@dataclass(eq=False)
class Reference:
    """What a window is compared with: training, or the device's own normal."""

    counts: Doubles
    """[features, width]"""
    nulls: Doubles

    @classmethod
    def none(cls, baseline: Baseline) -> "Reference":
        """A reference without rows: nothing to compare with yet."""
        return cls(np.zeros((len(baseline), baseline.width)), np.zeros(len(baseline)))

    @property
    def rows(self) -> Doubles:
        """Rows behind each feature's counts."""
        return np.asarray(self.counts.sum(axis=1))

    def add(self, window: "Window", chosen: NDArray[np.bool_]) -> None:
        """Count a window for the chosen features."""
        self.counts[chosen] += window.bins[chosen]
        self.nulls[chosen] += window.nulls[chosen]


@dataclass(eq=False)
class Window:
    """What the monitor keeps of a summary."""

    bins: Integers
    nulls: Integers
    rows: int

    @classmethod
    def merged(cls, windows: Sequence["Window"]) -> "Window":
        """One window with the counts of all of them."""
        if len(windows) == 1:
            return windows[0]
        return cls(
            np.sum([window.bins for window in windows], axis=0),
            np.sum([window.nulls for window in windows], axis=0),
            sum(window.rows for window in windows),
        )


@dataclass(eq=False)
class Independence:
    """Running sums that show how much more windows differ than independent rows would."""

    windows: Doubles
    rows: Doubles
    weighted: Doubles
    squares: Doubles

    @classmethod
    def none(cls, scores: int) -> "Independence":
        """Nothing measured yet about how much windows resemble their neighbours."""
        return cls(*(np.zeros(scores) for _ in range(4)))

    def add(self, x: Doubles, n: Doubles, chosen: NDArray[np.bool_]) -> None:
        """Count one window's scores, where they were chosen and the window has rows."""
        chosen = chosen & (n > 0)
        self.windows[chosen] += 1
        self.rows[chosen] += n[chosen]
        self.weighted[chosen] += (n * x)[chosen]
        self.squares[chosen] += (n * x * x)[chosen]

    def take(self, other: "Independence", chosen: NDArray[np.bool_]) -> None:
        """Move the chosen scores' sums of another one here."""
        for mine, theirs in (
            (self.windows, other.windows),
            (self.rows, other.rows),
            (self.weighted, other.weighted),
            (self.squares, other.squares),
        ):
            mine[chosen] += theirs[chosen]
            theirs[chosen] = 0.0

    def inflation(self, variance: Doubles) -> Doubles:
        """Variance of a window's score over what independent rows would give it, at least 1.

        1 unless the excess is significant, for the score itself or for half of all scores.
        """
        freedom = np.maximum(self.windows - 1, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            about_mean = self.squares - np.square(self.weighted) / self.rows
            ratio = np.nan_to_num(about_mean / freedom / variance, nan=0.0, posinf=0.0)
        # Wilson and Hilferty's chi-square quantile at 99.5 %.
        critical = (1 - 2 / (9 * freedom) + 2.576 * np.sqrt(2 / (9 * freedom))) ** 3
        own = np.where(ratio > critical, ratio, 1.0)
        moved = ratio > 0
        if not moved.any():
            return own
        common, usual = float(np.median(ratio[moved])), float(np.median(critical[moved]))
        # Half of all scores hardly exceed even half of the excess that one may show by chance.
        return np.maximum(own, common if common > 1 + (usual - 1) / 2 else 1.0)


@dataclass(eq=False)
class Calibration:
    """Fits by scale, and of innovations."""

    levels: tuple[LevelFit, ...]
    innovation: Fit


def chosen_fits(
    old: Calibration | None, new: Calibration, chosen: NDArray[np.bool_], dispersion: Places
) -> Calibration:
    """The new fit for the chosen scores, the old one for the others."""
    if old is None:
        return new

    def fit(before: Fit, after: Fit) -> Fit:
        return Fit(
            np.where(chosen[:, None], after.coefficients, before.coefficients),
            np.where(chosen[:, None, None], after.leverage, before.leverage),
            np.where(chosen, after.sd, before.sd),
            np.where(chosen, after.freedom, before.freedom),
            np.where(chosen, after.rows, before.rows),
        )

    of_dispersion = chosen[dispersion]
    levels = tuple(
        LevelFit(
            fit(before.fit, after.fit),
            np.where(of_dispersion, after.center, before.center),
            np.where(of_dispersion, after.scale, before.scale),
        )
        for before, after in zip(old.levels, new.levels, strict=True)
    )
    return Calibration(levels, fit(old.innovation, new.innovation))


@dataclass(eq=False)
class State:
    """All that a monitor remembers."""

    reference: Reference
    independence: Independence
    pending: Independence
    """Of windows in which the feature drifted: they count only if it recovers."""
    gathered: Reference
    """Counts of the calibration windows so far."""
    status: Integers
    """[features]"""
    quiet: Integers
    """[features]: windows since the last finding; −1 when not drifting."""
    recent: list[Window] = field(default_factory=list)
    """The last windows, as many as the largest scale merges."""
    lags: list[Doubles] = field(default_factory=list)
    """Scores of the last ``LAGS`` windows, transformed."""
    history: list[Floats] = field(default_factory=list)
    """Scores of the calibration windows so far, NaN while their feature drifted."""
    history_nulls: list[Naturals] = field(default_factory=list)
    history_rows: list[int] = field(default_factory=list)
    calibration: Calibration | None = None
    seen: int = 0

    def forgive(self, scores: NDArray[np.bool_]) -> None:
        """A feature went and came back by itself: it varies more than was known."""
        self.independence.take(self.pending, scores)


@dataclass(eq=False)
class _File:
    format: int
    features: int
    width: int
    scores: int
    state: State


def encode(state: State, baseline: Baseline, scores: int) -> bytes:
    """Compressed bytes that ``decode`` accepts for the same baseline only."""
    file = _File(FORMAT, len(baseline), baseline.width, scores, state)
    return zlib.compress(msgspec.msgpack.encode(file, enc_hook=packed_array), 1)


def decode(data: bytes, baseline: Baseline, scores: int) -> State:
    """Read a state made against the same baseline; raises ProtocolError."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, STATE_BYTES_MAX)
        file = msgspec.msgpack.decode(plain, type=_File, dec_hook=unpacked_array)
    except (zlib.error, msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"not a drift monitor's state: {error}") from None
    shape = (file.format, file.features, file.width, file.scores)
    if shape != (FORMAT, len(baseline), baseline.width, scores):
        raise ProtocolError(
            f"a drift monitor's state of (format, features, width, scores) {shape} does not fit "
            f"the baseline {baseline.digest[:12]}: begin a new one"
        )
    return file.state


def packed_array(array: Any) -> tuple[list[int], bytes]:
    """Shape and little-endian bytes, the same on every platform."""
    little = array.dtype.newbyteorder("<")
    return list(array.shape), (array if array.dtype == little else array.astype(little)).tobytes()


def unpacked_array(kind: Any, packed: tuple[list[int], bytes]) -> NDArray[Any]:
    """The array that ``packed_array`` packed, with the data type that its annotation names."""
    shape, data = packed
    dtype, little = _types(kind)
    return np.frombuffer(data, little).astype(dtype).reshape(shape)


@cache
def _types(kind: Any) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The data type that an annotation names, as it is here and as it is packed."""
    dtype = np.dtype(kind.__args__[1].__args__[0])
    return dtype, dtype.newbyteorder("<")
