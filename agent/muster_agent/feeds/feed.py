"""A feed at work: sources fill windows, the slot is asked, sinks are given what it answers.

Everything happens in one event loop, but for what libraries do in threads of their own.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from muster_agent.base.clock import Clock
from muster_agent.base.feed_settings import FeedSettings
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.assembly import InputRow, Values
from muster_agent.feeds.control import Notice
from muster_agent.feeds.ending import end
from muster_agent.feeds.inlet import Inlet
from muster_agent.feeds.keeping import Say, SinkKeeper, SourceKeeper
from muster_agent.feeds.model import FedModel
from muster_agent.feeds.samples import Picture
from muster_agent.feeds.sinks.registry import sink_kind
from muster_agent.feeds.slot_client import SlotClient
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_agent.feeds.sources.registry import source_kind
from muster_agent.feeds.status import AnswerStatus, FeedStatus, PartStatus, SignalStatus

log = logging.getLogger(__name__)
ASK_SHARE = 0.5
"""Of the deadline: what the slot may take. The rest is for the sinks."""
LOOKS_PER_DEADLINE = 4
FAREWELL_SECONDS = 2.0
"""How long a feed that ends may take to give its sinks the last word."""
BAD_SECONDS = 5.0
"""How long signals are bad before it is said: a single bad value is no news."""
NO_MODEL_SECONDS = 1.0
"""How often sinks hear that there is no model to ask."""


class Feed:
    """One feed of ``agent.toml``."""

    def __init__(
        self,
        settings: FeedSettings,
        place: FeedPlace,
        socket: Path,
        clock: Clock,
        say: Say,
        rng: random.Random,
    ) -> None:
        """Made inside of the event loop; raises FeedFault when an extra is missing."""
        self._settings = settings
        self._place = place
        self._clock = clock
        self._say = say
        loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._inlet = Inlet(
            clock,
            settings.queue_samples,
            lambda: _threadsafe(loop, self._woken),
        )
        self._slot = SlotClient(socket)
        self._model: FedModel | None = None
        self.refusal = "no model runs in the slot"
        """Why no model is asked; empty while one is."""
        self._usable = False
        self._last: FeedAnswer | None = None
        self._due_at = 0.0
        self._bad = ""
        self._bad_since = 0.0
        self._bad_said = ""
        self._sources = [
            SourceKeeper(
                name,
                source_kind(source).make(source, inlet, self._of(name)),
                inlet,
                say,
                rng,
            )
            for name, source in settings.sources.items()
            for inlet in (self._inlet.of(source.tags),)
        ]
        write_seconds = settings.deadline_seconds * (1 - ASK_SHARE)
        self._sinks = [
            SinkKeeper(name, sink_kind(sink).make(sink, self._of(name)), say, rng, write_seconds)
            for name, sink in settings.sinks.items()
        ]

    def _of(self, name: str) -> FeedPlace:
        here = self._place
        return FeedPlace(here.device, here.feed, name, here.slot, here.directory)

    def serve(self, model: FedModel | None, refusal: str) -> None:
        """From now on the slot runs this model; None: none that this feed can ask."""
        if refusal and refusal != self.refusal:
            self._say(Notice("refused", refusal))
        elif model is not None and self.refusal:
            self._say(Notice("accepted", f"{model.manifest.model} {model.manifest.version}"))
        if self._model is not None:
            self._model.assembler.abandon()
        self._model, self.refusal = model, refusal
        self._usable = False
        self._due_at = 0.0
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; then the sinks hear that nothing is decided any more."""
        async with asyncio.TaskGroup() as group:
            running = [each.run() for each in self._sources] + [each.run() for each in self._sinks]
            tasks = [group.create_task(each) for each in running]
            stopped = group.create_task(stop.wait())
            try:
                while not stop.is_set():
                    await self._wait(stopped)
                    await self._look(self._clock.monotonic())
                await self._farewell()
            finally:
                for task in (*tasks, stopped):
                    task.cancel()
                self._slot.close()
                for sink in self._sinks:
                    with contextlib.suppress(Exception):
                        await sink.close()
                await end((*tasks, stopped))

    async def _wait(self, stopped: "asyncio.Task[bool]") -> None:
        look = self._settings.deadline_seconds / LOOKS_PER_DEADLINE
        pause = min(look, max(self._due_at - self._clock.monotonic(), 0.0))
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({woken, stopped}, timeout=pause, return_when="FIRST_COMPLETED")
        finally:
            woken.cancel()
        self._woken.clear()

    async def _look(self, now: float) -> None:
        """Take in what has come; answer each picture, or when it is time, or when usable values
        have ended."""
        self._drain()
        self._watch(now)
        model = self._model
        waiting = model is not None and model.assembler.waiting
        ended = self._usable and model is not None and model.assembler.peek(now).values is None
        if now < self._due_at and not ended and not waiting:
            return
        every = NO_MODEL_SECONDS if model is None else model.assembler.window.every_seconds
        if now >= self._due_at:
            self._due_at = max(self._due_at + every, now)
        self._last = answer = await self._answer(now)
        for sink in self._sinks:
            sink.offer(answer)
        if waiting and model is not None:
            await self._delivered()
            model.assembler.answered()
            self._woken.set()  # Another may wait.

    async def _delivered(self) -> None:
        """Let each sink that works take the answer, before there is one to the next picture."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.deadline_seconds * (1 - ASK_SHARE)):
                for sink in self._sinks:
                    if not sink.failing:
                        await sink.settled()

    def _watch(self, now: float) -> None:
        """Say which signals are bad once they have been for a while, and when none is."""
        words = "" if self._model is None else self._model.assembler.bad_signals(now)
        if words != self._bad:
            self._bad, self._bad_since = words, now
        if words == self._bad_said or (words and now - self._bad_since < BAD_SECONDS):
            return
        self._bad_said = words
        if words:
            self._say(Notice("signals_bad", words))
        else:
            self._say(Notice("signals_good", "every signal is usable again"))

    def _drain(self) -> None:
        for arrival in self._inlet.drain():
            if self._model is not None:
                self._model.assembler.take(arrival)
            elif isinstance(arrival, Picture):
                arrival.settle(False)  # noqa: FBT003 - all that it is told

    async def _answer(self, now: float) -> FeedAnswer:
        model, wall = self._model, self._clock.wall()
        if model is None:
            return FeedAnswer({}, "bad", "model", "no_decision", "", "", wall)
        row = model.assembler.row(now)
        self._usable = row.values is not None
        if row.again and self._last is not None:
            return replace(self._last, again=True)
        if row.values is None:
            return model.substitute(row, row.reason, now, wall)
        try:
            return await self._asked(model, row, row.values, now)
        except (FeedFault, TimeoutError) as error:
            log.debug("%s: the slot does not answer: %r", self._place.feed, error)
            return model.substitute(row, "model", self._clock.monotonic(), wall)

    async def _asked(
        self, model: FedModel, row: InputRow, values: Values, now: float
    ) -> FeedAnswer:
        manifest = model.manifest
        async with asyncio.timeout(self._settings.deadline_seconds * ASK_SHARE):
            said = await self._slot.ask(
                manifest.model, manifest.version, model.tensor, values, identifier=row.picture
            )
        return model.answer(row, said, now, self._clock.wall())

    async def _farewell(self) -> None:
        """The last word: nothing is decided from now on."""
        name, version = "", ""
        if self._model is not None:
            name, version = self._model.manifest.model, self._model.manifest.version
        last = FeedAnswer({}, "bad", "lost", "no_decision", name, version, self._clock.wall())
        for sink in self._sinks:
            sink.offer(last)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for sink in self._sinks:
                    await sink.settled()

    def status(self) -> FeedStatus:
        """How it stands, for whoever stands before the device."""
        model, now = self._model, self._clock.monotonic()
        return FeedStatus(
            feed=self._place.feed,
            slot=self._settings.slot,
            at=self._clock.wall(),
            model="" if model is None else model.manifest.model,
            version="" if model is None else model.manifest.version,
            refusal=self.refusal,
            signals=[] if model is None else list(_signals(model, now)),
            sources={
                each.name: PartStatus(each.words, dict(each.counts)) for each in self._sources
            },
            sinks={each.name: PartStatus(each.words, dict(each.counts)) for each in self._sinks},
            counts={} if model is None else model.assembler.totals(),
            dropped=dict(self._inlet.dropped),
            answer=None if self._last is None else _answer(self._last),
        )


def _answer(answer: FeedAnswer) -> AnswerStatus:
    return AnswerStatus(
        value=answer.value(""),
        label=answer.label,
        confidence=answer.confidence,
        quality=answer.grade,
        reason=answer.reason,
        basis=answer.basis,
        at=answer.at,
    )


def _signals(model: FedModel, now: float) -> Iterator[SignalStatus]:
    for state in model.assembler.states(now):
        yield SignalStatus(
            feature=state.feature.name,
            signal=state.feature.source,
            value=state.values[-1],
            unit=state.feature.unit,
            quality=state.grade,
            reason=state.reason,
            age_seconds=state.age_seconds,
        )


def _threadsafe(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(event.set)
