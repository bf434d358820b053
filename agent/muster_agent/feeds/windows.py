"""The samples of one signal that an answer may rest on, in the order of their times. Pure."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from math import nan, sqrt
from typing import assert_never

from muster_agent.feeds.samples import Sample
from muster_protocol.wire.feeding import Statistic
from muster_protocol.wire.limits import WINDOW_SAMPLES_MAX


class SignalWindow:
    """Keeps what a window of ``samples`` or ``seconds`` needs of a signal.

    A repeated value (same time and number) is kept once. A late one takes its place by its time
    while that is within the window, and is dropped otherwise. What is dropped is counted.
    """

    def __init__(self, *, samples: int | None = None, seconds: float | None = None) -> None:
        self._samples = samples if seconds is None else WINDOW_SAMPLES_MAX
        self._seconds = seconds
        self._kept: list[Sample] = []
        self.latest: Sample | None = None
        """The last to arrive, whatever its quality."""
        self.alive_at = float("-inf")
        """When its source last gave a sign of life, by the monotonic clock."""
        self.counts: Counter[str] = Counter()

    def put(self, sample: Sample) -> None:
        """Take a sample that has arrived."""
        self.counts["samples"] += 1
        self.alive_at = max(self.alive_at, sample.arrived)
        self.latest = sample
        if sample.grade == "bad":
            self.counts[f"bad_{sample.reason or 'source'}"] += 1
            return
        kept = self._kept
        if kept and sample.at < kept[-1].at:
            self._put_late(sample)
            return
        if kept and sample.at == kept[-1].at and sample.value == kept[-1].value:
            self.counts["repeated"] += 1
            kept[-1] = sample
            return
        kept.append(sample)
        self._trim()

    def _put_late(self, sample: Sample) -> None:
        newest = self._kept[-1].at
        full = self._samples is not None and len(self._kept) >= self._samples
        if (self._seconds is not None and sample.at <= newest - self._seconds) or (
            full and sample.at < self._kept[0].at
        ):
            self.counts["late_dropped"] += 1
            return
        if any(kept.at == sample.at and kept.value == sample.value for kept in self._kept):
            self.counts["repeated"] += 1
            return
        self.counts["late"] += 1
        insort(self._kept, sample, key=lambda kept: kept.at)
        self._trim()

    def _trim(self) -> None:
        kept = self._kept
        if self._seconds is not None:
            oldest = kept[-1].at - self._seconds
            first = next(place for place, sample in enumerate(kept) if sample.at > oldest)
            del kept[:first]
        if self._samples is not None and len(kept) > self._samples:
            del kept[: len(kept) - self._samples]

    def restart(self) -> None:
        """Forget everything but the counts: the source's clock was set back."""
        self._kept.clear()

    def samples(self) -> Sequence[Sample]:
        """Those of the window that are not bad, oldest first."""
        return self._kept


def statistic(kind: Statistic, samples: Sequence[Sample]) -> list[float]:  # noqa: PLR0911 - one of each
    """The numbers that a feature makes of a window's samples; NaN of none at all."""
    if not samples:
        return [nan]
    values = [sample.value for sample in samples]
    mean = sum(values) / len(values)
    match kind:
        case "last":
            return [values[-1]]
        case "mean":
            return [mean]
        case "min":
            return [min(values)]
        case "max":
            return [max(values)]
        case "std":
            return [sqrt(sum((value - mean) ** 2 for value in values) / len(values))]
        case "rms":
            return [sqrt(sum(value * value for value in values) / len(values))]
        case "slope":
            return [_slope(samples, mean)]
        case "each":
            return values
        case _:
            assert_never(kind)


def _slope(samples: Sequence[Sample], mean: float) -> float:
    """Of the least-squares line, per second; 0 of samples at one time."""
    middle = sum(sample.at for sample in samples) / len(samples)
    spread = sum((sample.at - middle) ** 2 for sample in samples)
    if spread == 0:
        return 0.0
    return sum((item.at - middle) * (item.value - mean) for item in samples) / spread
