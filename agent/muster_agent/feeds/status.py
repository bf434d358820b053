"""How a feed stands, as the file that it writes for ``muster-agent feed list``. Pure."""

from msgspec import Struct


class SignalStatus(Struct, frozen=True):
    """A feature's signal: the last value in its unit, and how good it is."""

    feature: str
    signal: str
    value: float | None
    unit: str
    quality: str
    reason: str
    age_seconds: float | None


class PartStatus(Struct, frozen=True):
    """A source or sink."""

    trouble: str
    """Why it does not work; empty while it does."""
    counts: dict[str, int] = {}


class AnswerStatus(Struct, frozen=True):
    """What the sinks were given last."""

    value: float | None
    label: str
    confidence: float | None
    quality: str
    reason: str
    basis: str
    at: float
    """Of the data it rests on; seconds since 1970, 0 where it rests on none."""


class FeedStatus(Struct, frozen=True):
    """A whole feed."""

    feed: str
    slot: str
    at: float
    """When this was so; seconds since 1970."""
    model: str
    version: str
    refusal: str
    """Why no model is asked; empty while one is."""
    signals: list[SignalStatus]
    sources: dict[str, PartStatus]
    sinks: dict[str, PartStatus]
    counts: dict[str, int]
    dropped: dict[str, int]
    """Samples that there was no room for, by signal."""
    answer: AnswerStatus | None = None
