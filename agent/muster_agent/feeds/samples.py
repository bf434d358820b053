"""Values as sources give them: number, quality and why, and two times. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from muster_agent.base.tag_settings import TagSettings
from muster_protocol.images.decoding import Pixels

Grade = Literal["good", "uncertain", "bad"]
Reason = Literal[
    "", "missing", "stale", "range", "source", "lost", "late", "substituted", "unreadable", "model"
]
"""Why a value is not good. ``source``: its source says so. ``lost``: the source is gone.
``unreadable``: what came is no number. ``substituted``: another value stands in."""
GRADES: tuple[Grade, ...] = ("good", "uncertain", "bad")
"""From best to worst."""


def worst(grades: list[Grade]) -> Grade:
    """The worst of them; good when there are none."""
    return max(grades, key=GRADES.index, default="good")


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a signal. Times are seconds: ``at`` since 1970, by the source's clock where it
    says it, else by the device's; ``arrived`` by the device's monotonic clock.
    """

    signal: str
    value: float
    at: float
    arrived: float
    grade: Grade = "good"
    reason: Reason = ""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture of a signal, with times as a sample has them."""

    signal: str
    name: str
    """Of its file, or by its camera."""
    pixels: Pixels | None
    """None: it can't be read."""
    at: float
    arrived: float
    settle: Callable[[bool], None] = field(repr=False)
    """Called once: with True when its answer was given, with False when nobody asked for one."""

    @property
    def value(self) -> float:
        """Mean of its pixels, 0 to 255; NaN of one that can't be read."""
        return math.nan if self.pixels is None else float(self.pixels.mean())


@dataclass(frozen=True, slots=True)
class Alive:
    """The source of these signals is there; what it last said holds."""

    signals: tuple[str, ...]
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The source of these signals is gone."""

    signals: tuple[str, ...]


Arrival = Sample | Picture | Alive | Lost
"""What may come from a source."""


def in_unit(sample: Sample, tag: TagSettings) -> Sample:
    """A raw sample as its tag means it: scaled, and bad where it can't be."""
    value = sample.value * tag.scale + tag.offset
    if sample.grade == "bad":
        return replace(sample, value=value)
    if not math.isfinite(value):
        return replace(sample, value=math.nan, grade="bad", reason="unreadable")
    return in_range(replace(sample, value=value), tag.least, tag.most)


def in_range(sample: Sample, least: float | None, most: float | None) -> Sample:
    """The sample; bad when it is outside of what its signal can be."""
    below = least is not None and sample.value < least
    above = most is not None and sample.value > most
    if sample.grade != "bad" and (below or above):
        return replace(sample, grade="bad", reason="range")
    return sample


def number(value: object) -> float:
    """What a source gave, as a number; NaN where it is none. True is 1."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.nan
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return math.nan
    return math.nan


def grade_of(value: object) -> Grade:
    """A quality as sources spell it: words, OPC's numbers (192, 64, 0) or truth. Unknown is bad."""
    if isinstance(value, bool):
        return "good" if value else "bad"
    if isinstance(value, (int, float)):
        return "good" if value >= 192 else "uncertain" if 64 <= value < 128 else "bad"
    word = str(value).strip().lower()
    return next((grade for grade in GRADES if grade == word), "bad")
