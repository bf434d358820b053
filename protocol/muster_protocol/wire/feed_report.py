"""How a device's feeds stand, in a report while somebody watches them at the hub.

Times are ages: a device may not know what time it is.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster_protocol.wire import limits
from muster_protocol.wire.bounds import Finite, Integer, Line, Name, Seconds

Quality = Literal["good", "uncertain", "bad"]
Count = dict[Name, Integer]


class FeedSignal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A feature's signal: the last value in its unit, and how good it is."""

    feature: Name
    signal: Name
    value: Finite | None = None
    unit: Line = ""
    quality: Quality
    reason: Line = ""
    """Why it is not good: ``stale``, ``lost``, ``range``, …"""
    age_seconds: Seconds | None = None
    """None: nothing came yet."""


class FeedPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source or a sink."""

    trouble: Line = ""
    """Why it does not work; empty while it does."""
    counts: Annotated[Count, Meta(max_length=limits.FEED_COUNTS_MAX)] = {}


class LastAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the sinks were given last."""

    value: Finite | None = None
    """The first output; None: nothing is decided."""
    label: Line = ""
    confidence: Finite | None = None
    quality: Quality
    reason: Line = ""
    basis: Line
    """``model``, ``last_good``, ``constant`` or ``no_decision``."""
    age_seconds: Seconds | None = None
    """Of the data it rests on."""


class FeedReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One feed."""

    slot: Name
    model: Name = ""
    version: Name = ""
    refusal: Line = ""
    """Why no model is asked; empty while one is."""
    age_seconds: Seconds | None = None
    """Since this was so; None: its process has said nothing yet."""
    signals: Annotated[tuple[FeedSignal, ...], Meta(max_length=limits.FEED_SIGNALS_MAX)] = ()
    """In the model's order."""
    left_out: Integer = 0
    """Signals there was no room for; bad ones are told before good ones."""
    sources: Annotated[dict[Name, FeedPart], Meta(max_length=limits.FEED_PARTS_MAX)] = {}
    sinks: Annotated[dict[Name, FeedPart], Meta(max_length=limits.FEED_PARTS_MAX)] = {}
    counts: Annotated[Count, Meta(max_length=limits.FEED_COUNTS_MAX)] = {}
    """Rows and samples by what became of them, since the model came; ``dropped``: samples there was
    no room for."""
    answer: LastAnswer | None = None
