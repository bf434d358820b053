"""How feeds stand as the hub is told while somebody watches them there; bounded."""

from collections.abc import Iterable, Mapping
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TypeVar, get_args

import msgspec

from muster_agent.feeds.samples import GRADES
from muster_agent.feeds.status import AnswerStatus, FeedStatus, PartStatus, SignalStatus
from muster_protocol.wire import limits
from muster_protocol.wire.bounds import clean
from muster_protocol.wire.feed_report import (
    FeedPart,
    FeedReport,
    FeedSignal,
    LastAnswer,
    Quality,
)

LINE_CHARS_MAX = 160
"""Of a text in such a report."""
UNIT_CHARS_MAX = 24
T = TypeVar("T")
_WORST: dict[str, int] = {grade: place for place, grade in enumerate(reversed(GRADES))}


def status_path(run_dir: Path, feed: str) -> Path:
    """Where a feed's process writes how it stands."""
    return run_dir / "feeds" / f"{feed}.json"


def read(run_dir: Path, feed: str) -> FeedStatus:
    """What it wrote last; raises OSError and msgspec.DecodeError."""
    return msgspec.json.decode(status_path(run_dir, feed).read_bytes(), type=FeedStatus)


def line(text: str, chars_max: int = LINE_CHARS_MAX) -> str:
    """A text as a report may hold it."""
    return clean(text, line=True)[:chars_max]


def reported(status: FeedStatus, wall: float) -> FeedReport:
    """A feed as a report tells it at ``wall`` seconds since 1970, by the feed's own clock."""
    age = max(wall - status.at, 0.0)
    counts = dict(status.counts)
    if status.dropped:
        counts["dropped"] = sum(status.dropped.values())
    return FeedReport(
        slot=status.slot,
        model=status.model,
        version=status.version,
        refusal=line(status.refusal),
        age_seconds=_seconds(age),
        signals=tuple(_signal(each, age) for each in status.signals),
        sources=_parts(status.sources),
        sinks=_parts(status.sinks),
        counts=_some(counts, limits.FEED_COUNTS_MAX),
        answer=None if status.answer is None else _answer(status.answer, wall),
    )


def bounded(feeds: Mapping[str, FeedReport]) -> dict[str, FeedReport]:
    """As many feeds and signals as one report may tell; of signals those that are bad first."""
    kept = _some(feeds, limits.FEEDS_REPORTED_MAX)
    room = limits.FEED_SIGNALS_MAX
    while room:
        found = _cut(kept, room)
        if len(msgspec.msgpack.encode(found)) <= limits.FEEDS_BYTES_MAX:
            return found
        room //= 2
    bare = _cut(kept, 0)
    while len(msgspec.msgpack.encode(bare)) > limits.FEEDS_BYTES_MAX:
        bare.popitem()
    return bare


def _cut(feeds: Mapping[str, FeedReport], room: int) -> dict[str, FeedReport]:
    """With at most ``room`` signals in all feeds together."""
    all_of_them = [
        (_WORST[signal.quality], name, place)
        for name, feed in feeds.items()
        for place, signal in enumerate(feed.signals)
    ]
    chosen = {(name, place) for _, name, place in sorted(all_of_them, key=lambda x: x[0])[:room]}
    found = {}
    for name, feed in feeds.items():
        kept = tuple(s for place, s in enumerate(feed.signals) if (name, place) in chosen)
        left_out = len(feed.signals) - len(kept)
        found[name] = msgspec.structs.replace(feed, signals=kept, left_out=left_out)
    return found


def _signal(status: SignalStatus, age: float) -> FeedSignal:
    return FeedSignal(
        feature=line(status.feature, limits.NAME_CHARS_MAX),
        signal=line(status.signal, limits.NAME_CHARS_MAX),
        value=_finite(status.value),
        unit=line(status.unit, UNIT_CHARS_MAX),
        quality=_quality(status.quality),
        reason=line(status.reason),
        age_seconds=None if status.age_seconds is None else _seconds(status.age_seconds + age),
    )


def _answer(status: AnswerStatus, wall: float) -> LastAnswer:
    return LastAnswer(
        value=_finite(status.value),
        label=line(status.label),
        confidence=_finite(status.confidence),
        quality=_quality(status.quality),
        reason=line(status.reason),
        basis=line(status.basis),
        age_seconds=_seconds(wall - status.at) if status.at else None,
    )


def _parts(parts: Mapping[str, PartStatus]) -> dict[str, FeedPart]:
    return {
        line(name, limits.NAME_CHARS_MAX): FeedPart(
            trouble=line(part.trouble), counts=_some(part.counts, limits.FEED_COUNTS_MAX)
        )
        for name, part in islice(parts.items(), limits.FEED_PARTS_MAX)
    }


def _some(items: Mapping[str, T], count: int) -> dict[str, T]:
    pairs: Iterable[tuple[str, T]] = islice(items.items(), count)
    return {line(name, limits.NAME_CHARS_MAX): each for name, each in pairs}


def _quality(word: str) -> Quality:
    return next((each for each in get_args(Quality) if each == word), "bad")


def _finite(value: float | None) -> float | None:
    within = value is not None and isfinite(value) and abs(value) <= limits.NUMBER_MAX
    return value if within else None


def _seconds(value: float) -> float | None:
    return min(max(value, 0.0), float(limits.SECONDS_MAX)) if isfinite(value) else None
