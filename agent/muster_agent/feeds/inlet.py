"""Where sources leave what they have: a bounded queue from any thread to the feed's own.

When a source is faster than the feed the oldest are dropped, and counted by the signal's name.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from muster_agent.base.clock import Clock
from muster_agent.base.tag_settings import TagSettings
from muster_agent.feeds.samples import (
    Alive,
    Arrival,
    Grade,
    Lost,
    Picture,
    Reason,
    Sample,
    in_unit,
    number,
)
from muster_protocol.images.decoding import Pixels


class Inlet:
    """A feed's queue of what has arrived."""

    def __init__(self, clock: Clock, size: int, wake: Callable[[], None]) -> None:
        """``wake`` is called, from any thread, when something that may not wait has arrived."""
        self._clock = clock
        self._queue = deque[Arrival]()
        self._size = size
        self._wake = wake
        self._lock = threading.Lock()
        self.dropped: Counter[str] = Counter()
        """Samples that there was no room for, by signal."""

    def put(self, sample: Arrival) -> None:
        """Leave something; the oldest makes room."""
        with self._lock:
            if len(self._queue) >= self._size:
                self._drop(self._queue.popleft())
            self._queue.append(sample)
        if isinstance(sample, Lost | Picture):
            self._wake()

    def _drop(self, oldest: Arrival) -> None:
        if isinstance(oldest, Sample | Picture):
            self.dropped[oldest.signal] += 1
        if isinstance(oldest, Picture):
            oldest.settle(False)  # noqa: FBT003 - all that it is told

    def drain(self) -> list[Arrival]:
        """All that has arrived, in its order."""
        with self._lock:
            drained = list(self._queue)
            self._queue.clear()
        return drained

    def of(self, tags: Mapping[str, TagSettings]) -> "SourceInlet":
        """The inlet as the source of these tags sees it."""
        return SourceInlet(self, tags, self._clock)


class SourceInlet:
    """What one source gives: raw values under its signals' names."""

    def __init__(self, inlet: Inlet, tags: Mapping[str, TagSettings], clock: Clock) -> None:
        self._inlet = inlet
        self._tags = tags
        self._clock = clock
        self.heard = False
        """Whether anything came since this was last set to False."""
        self.words = ""
        """What the source last complained of, of some of its tags."""
        self.counts: Counter[str] = Counter()
        """What else became of what it had, by name."""

    def put(
        self,
        signal: str,
        raw: object,
        *,
        at: float | None = None,
        grade: Grade = "good",
        reason: Reason = "",
    ) -> None:
        """A value as the source has it, at its own time (None: it says none)."""
        now = self._clock.wall() if at is None else at
        sample = Sample(signal, number(raw), now, self._clock.monotonic(), grade, reason)
        self.heard = True
        self._inlet.put(in_unit(sample, self._tags[signal]))

    async def picture(
        self, signal: str, name: str, pixels: Pixels | None, *, at: float | None = None
    ) -> bool:
        """A picture, or one that can't be read; whether its answer was given, once that is known.

        It waits for that: of a source's pictures one is under way. Called in the feed's own loop.
        """
        settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(judged: bool) -> None:  # noqa: FBT001 - all that it is told
            if not settled.done():
                settled.set_result(judged)

        self.heard = True
        now = self._clock.wall() if at is None else at
        self._inlet.put(Picture(signal, name, pixels, now, self._clock.monotonic(), settle))
        return await settled

    def alive(self, signals: Iterable[str]) -> None:
        """Nothing has changed, and the source would say so if it had."""
        self.heard = True
        self._inlet.put(Alive(tuple(signals), self._clock.monotonic()))

    def connected(self) -> None:
        """The source is there; its values will come in their own time."""
        self.heard = True

    def trouble(self, words: str) -> None:
        """Some tags can't be had; the others go on."""
        self.words = words

    def lost(self, signals: Iterable[str] | None = None) -> None:
        """The source is gone, or some of its signals are."""
        self._inlet.put(Lost(tuple(self._tags if signals is None else signals)))
