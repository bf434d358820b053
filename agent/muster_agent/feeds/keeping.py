"""Keeping sources and sinks connected: begun again after a jittered, growing pause, for ever."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping

from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.control import Notice
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sinks.base import KeepsMissed, Sink, TakesAgain
from muster_agent.feeds.sources.base import FeedFault, Source

log = logging.getLogger(__name__)
PAUSE_SECONDS_MIN = 0.2
PAUSE_SECONDS_MAX = 10.0
DOUBLED_MAX = 8
CONNECTING = "connecting"
Say = Callable[[Notice], None]


class Retries:
    """How long to wait before another try: ± 25 %, doubled with each failure in a row."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def reset(self) -> None:
        """It worked."""
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait now."""
        doubled: float = PAUSE_SECONDS_MIN * 2 ** min(self._failures, DOUBLED_MAX)
        self._failures += 1
        return min(doubled, PAUSE_SECONDS_MAX) * self._rng.uniform(0.75, 1.25)


class SourceKeeper:
    """Runs a source for ever."""

    def __init__(
        self, name: str, source: Source, inlet: SourceInlet, say: Say, rng: random.Random
    ) -> None:
        self.name = name
        self.words = CONNECTING
        """Why it gives nothing; empty while it does."""
        self._source = source
        self._inlet = inlet
        self._say = say
        self._pause = Retries(rng)

    @property
    def counts(self) -> Mapping[str, int]:
        """What the source counts of its own, by name."""
        return self._inlet.counts

    async def run(self) -> None:
        """Until cancelled."""
        said = False
        while True:
            self._inlet.heard = False
            watcher = asyncio.create_task(self._watch(said))
            try:
                await self._source.run()
                fault = "it has ended"
            except (FeedFault, OSError) as error:
                fault = str(error)
            except Exception as error:  # a driver that breaks takes nothing else down
                log.exception("source %s", self.name)
                fault = f"{type(error).__name__}: {error}"
            finally:
                watcher.cancel()
            if self._inlet.heard:
                self._pause.reset()
                said = False
            self._inlet.lost()
            self.words = fault
            if not said:
                said = True
                self._say(Notice("source_lost", fault, self.name))
            await asyncio.sleep(self._pause.next())  # before it is tried again

    async def _watch(self, was_lost: bool) -> None:  # noqa: FBT001 - it is all it asks
        """Notice the first sign of life."""
        while not self._inlet.heard:  # noqa: ASYNC110 - it is set from other threads
            await asyncio.sleep(PAUSE_SECONDS_MIN)  # The source gives signs at its own pace.
        self.words = ""
        if was_lost:
            self._say(Notice("source_back", "it is there again", self.name))


class SinkKeeper:
    """Hands a sink the newest answer. An older one that it had no time for is counted."""

    def __init__(
        self, name: str, sink: Sink, say: Say, rng: random.Random, write_seconds: float
    ) -> None:
        self.name = name
        self.words = CONNECTING
        """Why it takes nothing; empty while it does."""
        self.counts: Counter[str] = Counter()
        self._sink = sink
        self._say = say
        self._pause = Retries(rng)
        self._write_seconds = write_seconds
        self._next: FeedAnswer | None = None
        self._offered = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = False
        self._said = False

    def offer(self, answer: FeedAnswer) -> None:
        """The newest answer."""
        beats = isinstance(self._sink, TakesAgain) and self._sink.beats
        if answer.again and (self._next is not None or not beats):
            return
        if self._next is not None:
            self._missed(self._next)
        self._next = answer
        self._idle.clear()
        self._offered.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._offered.wait()
            self._offered.clear()
            try:
                async with asyncio.timeout(self._write_seconds):
                    await self._write()
            except TimeoutError:
                await self._failed(f"no answer within {self._write_seconds:g} s")
            except (FeedFault, OSError) as error:
                await self._failed(str(error))
            except Exception as error:  # as above
                log.exception("sink %s", self.name)
                await self._failed(f"{type(error).__name__}: {error}")

    async def _write(self) -> None:
        if not self._open:
            await self._sink.open()
            self._open = True
        answer = self._take()
        if answer is None:
            return
        try:
            await self._sink.write(answer)
        except BaseException:
            self._put_back(answer)
            raise
        self.counts["answers_delivered"] += 1
        self.words = ""
        self._pause.reset()
        if self._said:
            self._said = False
            self._say(Notice("sink_back", "it takes answers again", self.name))
        if self._next is None:
            self._idle.set()

    def _take(self) -> FeedAnswer | None:
        answer, self._next = self._next, None
        return answer

    def _put_back(self, answer: FeedAnswer) -> None:
        """Another try is due, unless there is a newer one."""
        if self._next is None:
            self._next = answer
        else:
            self._missed(answer)

    def _missed(self, answer: FeedAnswer) -> None:
        self.counts["answers_replaced"] += 1
        if isinstance(self._sink, KeepsMissed):
            self._sink.miss(answer)

    async def _failed(self, words: str) -> None:
        self.counts["failures"] += 1
        self.words = words
        self._open = False
        await self._sink.close()
        if not self._said:
            self._said = True
            self._say(Notice("sink_lost", words, self.name))
        await asyncio.sleep(self._pause.next())  # before it is tried again
        if self._next is not None:
            self._offered.set()

    @property
    def failing(self) -> bool:
        """Whether it was tried and takes nothing."""
        return self.words not in {"", CONNECTING}

    async def settled(self) -> None:
        """Wait until the newest answer is delivered."""
        await self._idle.wait()

    async def close(self) -> None:
        """Disconnect."""
        await self._sink.close()
