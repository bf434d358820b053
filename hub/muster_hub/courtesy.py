"""Work in the background gives way to a person who waits for an answer.

Threads of one interpreter take turns: a list that takes ten milliseconds takes a hundred while
ingest, engine and publisher write down what a rollout to ten thousand devices does. They ask here
between two messages or devices, never within a write, and pause while an answer is being made; at
most half of their time, so that who asks without end can't hold the fleet up.
"""

import asyncio
import threading
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAUSE_SECONDS = 0.03
"""At once, at most: longer than a list takes that has the interpreter to itself."""
LOOK_SECONDS = 0.002
ANSWER_SECONDS = 1.0
"""An answer that takes longer is waited for by nobody's eyes: an upload, an export, a slow link."""


class Courtesy:
    """Who waits for an answer now. Of a process, as the interpreter is: ``COURTESY``."""

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting = 0
        """Answers being made. Only the event loop's thread writes it."""
        self._sleep = sleep
        self._monotonic = monotonic
        self._mine = threading.local()

    def give_way(self) -> None:
        """Pause while somebody waits, if this thread has worked for as long as it paused last.

        Costs next to nothing when nobody waits. Not to be called while a write is open.
        """
        if not self.waiting:
            return
        begun = self._monotonic()
        if begun < getattr(self._mine, "works_until", 0.0):
            return
        now = begun
        while self.waiting and now < begun + PAUSE_SECONDS:
            self._sleep(LOOK_SECONDS)
            now = self._monotonic()
        self._mine.works_until = now + (now - begun)


COURTESY = Courtesy()


class Answering:
    """Middleware that says when an answer is being made; streams of events are none."""

    def __init__(self, app: ASGIApp, courtesy: Courtesy = COURTESY) -> None:
        self._app = app
        self._courtesy = courtesy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        waits = True
        self._courtesy.waiting += 1

        def no_more() -> None:
            nonlocal waits
            if waits:
                waits = False
                self._courtesy.waiting -= 1

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and any(
                name == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message["headers"]
            ):
                no_more()
            await send(message)

        late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, no_more)
        try:
            await self._app(scope, receive, watched)
        finally:
            late.cancel()
            no_more()
