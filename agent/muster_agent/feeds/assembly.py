"""From samples to the numbers of a model's input: by name, unit and order of its signed manifest.

A feed's tags and a model's features are held against each other once, when the model comes
(``refusals``). Afterwards each row has numbers, or the reason why it can't have them. Pure.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from msgspec import UNSET
from numpy.typing import NDArray

from muster_agent.base.picture_settings import PictureTag
from muster_agent.base.tag_settings import TagSettings
from muster_agent.feeds.samples import (
    Alive,
    Arrival,
    Grade,
    Lost,
    Picture,
    Reason,
    Sample,
    in_range,
    worst,
)
from muster_agent.feeds.windows import SignalWindow, statistic
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.manifest import Manifest

CLOCK_JUMP_SECONDS = 60.0
"""A source whose time steps back by more begins its windows anew."""


@dataclass(frozen=True)
class FeatureState:
    """A feature as it stands: the numbers for the model, before they are scaled."""

    feature: InputFeature
    values: tuple[float, ...]
    grade: Grade
    reason: Reason
    age_seconds: float
    """Since its source's last sign of life."""


Values = tuple[float, ...] | NDArray[Any]
"""Numbers of a model's input: of features one by one, of a picture an array."""


@dataclass(frozen=True)
class InputRow:
    """What the model is asked with, or why it can't be."""

    values: Values | None
    """In the order of the input's element; None: the model isn't asked."""
    grade: Grade
    reason: Reason
    signals: tuple[str, ...]
    """Those whose values are not good."""
    at: float
    """Source time of the newest sample; seconds since 1970."""
    picture: str = ""
    """Name of the picture that it is."""
    again: bool = False
    """The model was asked it before, and nothing new has come."""


def refusals(manifest: Manifest, tags: Mapping[str, TagSettings]) -> list[str]:
    """Why a feed with these tags can't fill this model's input; empty when it can."""
    where = f"{manifest.model} {manifest.version}"
    pictures = manifest.image is not UNSET
    features = () if manifest.features is UNSET else manifest.features
    if manifest.image is not UNSET:
        features = (InputFeature(manifest.image.signal),)
    if not features:
        return [f"{where} names no features: its manifest is for programs that ask, not for feeds"]
    found = []
    for feature in {feature.source: feature for feature in features}.values():
        tag = tags.get(feature.source)
        if tag is None:
            known = ", ".join(sorted(tags))
            found.append(
                f"{where} needs the signal {feature.source!r} and no tag has this name; "
                f"there are {known}"
            )
        elif isinstance(tag, PictureTag) != pictures:
            wants, gives = ("pictures", "numbers") if pictures else ("numbers", "pictures")
            found.append(f"signal {feature.source!r}: {where} takes {wants}, the tag gives {gives}")
        elif tag.unit != feature.unit:
            found.append(
                f"signal {feature.source!r}: {where} takes it in {feature.unit or 'no unit'!r}, "
                f"the tag gives {tag.unit or 'no unit'!r}: set unit, scale and offset of the tag"
            )
    return found


class Assembler:
    """Holds the windows of a model's signals. All times are given."""

    def __init__(self, manifest: Manifest) -> None:
        assert manifest.features is not UNSET, "refusals come first"
        self._features = manifest.features
        window = InputWindow(samples=1) if manifest.window is UNSET else manifest.window
        self.window = window
        self.quality = InputQuality() if manifest.quality is UNSET else manifest.quality
        samples = None if window.samples is UNSET else window.samples
        seconds = None if window.seconds is UNSET else window.seconds
        if samples is None and seconds is None:
            samples = 1
        self._samples = samples
        self._ranges = {
            feature.source: (
                None if feature.least is UNSET else feature.least,
                None if feature.most is UNSET else feature.most,
            )
            for feature in manifest.features
        }
        self._windows = {
            signal: SignalWindow(samples=samples, seconds=seconds) for signal in self._ranges
        }
        self._lost: set[str] = set()
        self._held: dict[str, tuple[float, tuple[float, ...]]] = {}
        self.counts: Counter[str] = Counter()
        """Rows by what became of them."""

    waiting = False
    """No answer is due for a sample; answers are due by time."""

    def answered(self) -> None:
        """The sinks have the answer to the last row."""

    def abandon(self) -> None:
        """Another model is asked from now on."""

    def take(self, arrival: Arrival) -> None:
        """Take whatever came from a source."""
        match arrival:
            case Sample():
                self.put(arrival)
            case Picture():
                self.counts["pictures_unused"] += 1
                arrival.settle(True)  # noqa: FBT003 - all that it is told
            case Alive(signals, at):
                self.alive(signals, at)
            case Lost(signals):
                self.lost(signals)
            case _:
                assert_never(arrival)

    def put(self, sample: Sample) -> None:
        """Take a sample; those of signals that the model doesn't ask for are counted."""
        window = self._windows.get(sample.signal)
        if window is None:
            self.counts["samples_unused"] += 1
            return
        if self.window.clock == "arrival":
            sample = replace(sample, at=sample.arrived)
        kept = window.samples()
        if kept and sample.at < kept[-1].at - CLOCK_JUMP_SECONDS:
            window.restart()
            self.counts["clock_jumps"] += 1
        self._lost.discard(sample.signal)
        window.put(in_range(sample, *self._ranges[sample.signal]))

    def alive(self, signals: Iterable[str], now: float) -> None:
        """The source of these is there, and what it last said still holds."""
        for signal in signals:
            if (window := self._windows.get(signal)) is not None and window.latest is not None:
                window.alive_at = max(window.alive_at, now)
                self._lost.discard(signal)

    def lost(self, signals: Iterable[str]) -> None:
        """The source of these is gone: nothing it said holds any more."""
        self._lost.update(signal for signal in signals if signal in self._windows)

    def states(self, now: float) -> list[FeatureState]:
        """Each feature as it stands, in the model's order."""
        return [self._state(feature, now) for feature in self._features]

    def _state(self, feature: InputFeature, now: float) -> FeatureState:
        window = self._windows[feature.source]
        grade, reason = self._judged(feature.source, window, now)
        values = tuple(statistic(feature.statistic, window.samples()))
        if feature.statistic == "each" and len(values) != self._samples and grade != "bad":
            grade, reason = "bad", "missing"
        return FeatureState(feature, values, grade, reason, now - window.alive_at)

    def _judged(self, signal: str, window: SignalWindow, now: float) -> tuple[Grade, Reason]:
        latest = window.latest
        if signal in self._lost:
            return "bad", "lost"
        if latest is None:
            return "bad", "missing"
        if now - window.alive_at > self.quality.stale_seconds:
            return "bad", "stale"
        if latest.grade == "bad":
            return "bad", latest.reason
        if any(sample.grade == "uncertain" for sample in window.samples()):
            return ("bad" if self.quality.uncertain == "bad" else "uncertain"), "source"
        return "good", ""

    def bad_signals(self, now: float) -> str:
        """Which signals are bad and why: ``flow (stale), temp (lost)``; empty when none is."""
        states = (state for state in self.states(now) if state.grade == "bad")
        named = dict.fromkeys(f"{state.feature.source} ({state.reason})" for state in states)
        return ", ".join(named)

    def row(self, now: float) -> InputRow:
        """What the model is to be asked now; counted."""
        made = self.peek(now)
        self.counts["rows_skipped" if made.values is None else f"rows_{made.grade}"] += 1
        return made

    def peek(self, now: float) -> InputRow:
        """The same, uncounted."""
        states = self.states(now)
        newest = max(
            (window.latest.at for window in self._windows.values() if window.latest), default=0.0
        )
        columns, grades, reasons = list[tuple[float, ...]](), list[Grade](), list[Reason]()
        poor = tuple(
            dict.fromkeys(state.feature.source for state in states if state.grade != "good")
        )
        for state in states:
            filled = self._filled(state, now)
            if filled is None:
                return InputRow(None, "bad", state.reason, poor, newest)
            values, grade, reason = filled
            offset, scale = state.feature.offset, state.feature.scale
            columns.append(tuple((value - offset) / scale for value in values))
            grades.append(grade)
            reasons.append(reason)
        grade = worst(grades)
        reason = "" if grade == "good" else reasons[grades.index(grade)]
        rows = zip(*columns, strict=True)  # sample by sample, each with every feature
        return InputRow(tuple(value for row in rows for value in row), grade, reason, poor, newest)

    def _filled(
        self, state: FeatureState, now: float
    ) -> tuple[tuple[float, ...], Grade, Reason] | None:
        """Numbers of a feature by the quality policy; None: the model can't be asked."""
        name = state.feature.name
        if state.grade != "bad":
            self._held[name] = (now, state.values)
            return state.values, state.grade, state.reason
        if self.quality.bad == "pass":
            count = (self._samples or 1) if state.feature.statistic == "each" else 1
            return (math.nan,) * count, "uncertain", state.reason
        if self.quality.bad == "hold" and name in self._held:
            since, values = self._held[name]
            if now - since <= self.quality.hold_seconds:
                return values, "uncertain", "substituted"
        return None

    def totals(self) -> dict[str, int]:
        """Counts of all windows and rows, by name."""
        return dict(sum((window.counts for window in self._windows.values()), Counter(self.counts)))
