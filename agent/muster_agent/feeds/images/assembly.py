"""Pictures as a model's input: each is prepared as its signed manifest says, and judged once. Pure.

Does for a picture what ``feeds.assembly`` does for numbers.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, assert_never

from msgspec import UNSET
from numpy.typing import NDArray

from muster_agent.feeds.assembly import FeatureState, InputRow
from muster_agent.feeds.samples import Alive, Arrival, Grade, Lost, Picture, Reason, Sample
from muster_protocol.images.preparing import prepared
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.imaging import pictured_input
from muster_protocol.wire.manifest import Manifest

WAITING_MAX = 8
"""Pictures that may wait in memory, of several sources; of one, one is under way."""


@dataclass(frozen=True)
class _Due:
    """A picture that an answer is due for."""

    picture: Picture
    values: NDArray[Any] | None
    """The model's input; None: it can't be read."""


class PictureAssembler:
    """Holds the pictures that wait. All times are given."""

    def __init__(self, manifest: Manifest) -> None:
        assert manifest.image is not UNSET, "refusals come first"
        self._image = manifest.image
        self._tensor = pictured_input(manifest.image, manifest.inputs, manifest.model)
        self._feature = InputFeature(manifest.image.signal)
        self.window = InputWindow() if manifest.window is UNSET else manifest.window
        self.quality = InputQuality() if manifest.quality is UNSET else manifest.quality
        self._waiting = deque[_Due]()
        self._asked: Picture | None = None
        self._latest: _Due | None = None
        self._lost = False
        self.counts: Counter[str] = Counter()
        """Pictures and rows by what became of them."""

    @property
    def waiting(self) -> bool:
        """Whether an answer is due for a picture."""
        return bool(self._waiting)

    def take(self, arrival: Arrival) -> None:
        """Take whatever came from a source."""
        match arrival:
            case Picture():
                self._put(arrival)
            case Sample():
                self.counts["samples_unused"] += 1
            case Alive():
                pass  # A picture shows that its source is there; nothing else does.
            case Lost(signals):
                self.lost(signals)
            case _:
                assert_never(arrival)

    def _put(self, picture: Picture) -> None:
        if picture.signal != self._feature.source:
            self.counts["pictures_unused"] += 1
            picture.settle(True)  # noqa: FBT003 - all that it is told
            return
        self.counts["pictures"] += 1
        if len(self._waiting) >= WAITING_MAX:
            self.counts["pictures_dropped"] += 1
            self._waiting.popleft().picture.settle(False)  # noqa: FBT003 - as above
        values = None
        if picture.pixels is None:
            self.counts["bad_unreadable"] += 1
        else:
            values = prepared(picture.pixels, self._image, self._tensor)
        self._lost = False
        self._latest = _Due(picture, values)
        self._waiting.append(self._latest)

    def lost(self, signals: Iterable[str]) -> None:
        """The source of these is gone."""
        self._lost = self._lost or self._feature.source in signals

    def states(self, now: float) -> list[FeatureState]:
        """How the pictures stand; the number is the mean of the latest's pixels."""
        grade, reason = self._judged(now)
        latest = self._latest
        value = math.nan if latest is None else latest.picture.value
        age = math.inf if latest is None else now - latest.picture.arrived
        return [FeatureState(self._feature, (value,), grade, reason, age)]

    def _judged(self, now: float) -> tuple[Grade, Reason]:
        if self._lost:
            return "bad", "lost"
        if self._latest is None:
            return "bad", "missing"
        if now - self._latest.picture.arrived > self.quality.stale_seconds:
            return "bad", "stale"
        return ("bad", "unreadable") if self._latest.values is None else ("good", "")

    def bad_signals(self, now: float) -> str:
        """``image (stale)``; empty when it is good."""
        grade, reason = self._judged(now)
        return "" if grade == "good" else f"{self._feature.source} ({reason})"

    def row(self, now: float) -> InputRow:
        """What the model is to be asked now, for the picture that waits longest; counted."""
        if not self._waiting:
            made = self.peek(now)
            return made if made.values is None else replace(made, again=True)
        due = self._waiting.popleft()
        self._asked = due.picture
        made = self._row(due, *(("bad", "unreadable") if due.values is None else ("good", "")))
        self.counts["rows_skipped" if made.values is None else "rows_good"] += 1
        return made

    def peek(self, now: float) -> InputRow:
        """Of the latest picture, uncounted."""
        grade, reason = self._judged(now)
        if self._latest is None:
            return InputRow(None, grade, reason, (self._feature.source,), 0.0)
        return self._row(self._latest, grade, reason)

    def _row(self, due: _Due, grade: Grade, reason: Reason) -> InputRow:
        poor = () if grade == "good" else (self._feature.source,)
        values = due.values if grade == "good" else None
        return InputRow(values, grade, reason, poor, due.picture.at, due.picture.name)

    def answered(self) -> None:
        """The sinks have the answer to the last row."""
        if self._asked is not None:
            self._asked.settle(True)  # noqa: FBT003 - all that it is told
            self._asked = None

    def abandon(self) -> None:
        """Another model is asked from now on: what waits is for it."""
        while self._waiting:
            self._waiting.popleft().picture.settle(False)  # noqa: FBT003 - as above

    def totals(self) -> dict[str, int]:
        """Counts by name."""
        return dict(self.counts)
