"""What a monitor in time remembers between windows, and its bytes: O(features)."""

import zlib
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_protocol.signals.baseline import Baseline
from muster_protocol.signals.charts import Track
from muster_protocol.signals.monitor_state import packed_array, unpacked_array
from muster_protocol.signals.rule import Fault, StatisticName
from muster_protocol.signals.sensor_faults import Habits
from muster_protocol.signals.timeline import Normal
from muster_protocol.wire import limits
from muster_protocol.wire.errors import ProtocolError

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
FORMAT = 2
STATE_BYTES_MAX = 16 * limits.MIB


@dataclass(eq=False)
class Standing:
    """A finding that stands."""

    statistic: StatisticName
    direction: str
    up: bool
    fault: Fault = ""
    detail: str = ""
    value: float = 0.0
    limit: float = 0.0
    quiet: int = 0
    """Windows since it was last seen."""
    windows: int = 0
    """Windows for which it has stood in this direction."""


@dataclass(eq=False)
class Moments:
    """Running sums of a vector."""

    windows: int
    total: Doubles
    squares: Doubles

    @classmethod
    def none(cls, numbers: int) -> "Moments":
        """Sums before the first window, for that many numbers."""
        return cls(0, np.zeros(numbers), np.zeros(numbers))

    def add(self, x: Doubles) -> None:
        """Count one window's numbers."""
        self.windows += 1
        self.total += x
        self.squares += np.square(x)

    @property
    def mean(self) -> Doubles:
        """Mean of each number over the windows; 0 before the first."""
        return np.asarray(self.total / max(self.windows, 1))

    @property
    def std(self) -> Doubles:
        """Sample standard deviation of each number."""
        freedom = max(self.windows - 1, 1)
        within = (self.squares - np.square(self.total) / max(self.windows, 1)) / freedom
        return np.sqrt(np.maximum(within, 0.0))


@dataclass(eq=False)
class Own:
    """What is normal on this device, where that isn't what training says."""

    center: Doubles
    ratio: Doubles
    windows: float
    """Behind it; infinite while it is training's own."""

    @classmethod
    def trained(cls, numbers: int) -> "Own":
        """A device whose normal is training's own."""
        return cls(np.zeros(numbers), np.ones(numbers), np.inf)


@dataclass(eq=False)
class ChartState:
    """All that a monitor in time remembers."""

    tracks: list[Track]
    own: tuple[Own, Own]
    """Of the vector, of the relations."""
    gathered: tuple[Moments, Moments]
    """While findings stand: of what may become normal."""
    lately: tuple[Doubles, Doubles]
    """Smoothed vectors: what the last dozen windows looked like."""
    habits: Habits
    good: Integers
    """[features]: windows so far in which the feature was as it should be, in a row."""
    standing: dict[int, Standing] = field(default_factory=dict)
    stood: int = 0
    """Windows that findings of the charts have stood."""
    seen: int = 0

    @classmethod
    def fresh(cls, baseline: Baseline, normal: Normal) -> "ChartState":
        """State of a monitor that has seen no window."""
        sizes = normal.numbers, len(normal.projections)
        return cls(
            tracks=[Track.fresh(chart) for chart in normal.charts],
            own=(Own.trained(sizes[0]), Own.trained(sizes[1])),
            gathered=(Moments.none(sizes[0]), Moments.none(sizes[1])),
            lately=(np.zeros(sizes[0]), np.zeros(sizes[1])),
            habits=Habits.none(baseline),
            good=np.zeros(len(baseline), np.int64),
        )


@dataclass(eq=False)
class _File:
    format: int
    digest: str
    state: ChartState


def encode(state: ChartState, baseline: Baseline) -> bytes:
    """Compressed bytes that ``decode`` accepts for the same baseline only."""
    file = _File(FORMAT, baseline.digest, state)
    return zlib.compress(msgspec.msgpack.encode(file, enc_hook=packed_array), 1)


def decode(data: bytes, baseline: Baseline) -> ChartState:
    """Read a state made against the same baseline; raises ProtocolError."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, STATE_BYTES_MAX)
        file = msgspec.msgpack.decode(plain, type=_File, dec_hook=unpacked_array)
    except (zlib.error, msgspec.DecodeError, ValueError) as error:
        raise ProtocolError(f"not a drift monitor's state: {error}") from None
    if (file.format, file.digest) != (FORMAT, baseline.digest):
        raise ProtocolError(
            f"a drift monitor's state of format {file.format} and baseline {file.digest[:12]} "
            f"does not fit the baseline {baseline.digest[:12]}: begin a new one"
        )
    return file.state
