"""Answers in a file, a JSON object a line; a full file makes way for a new one."""

import asyncio

from muster_agent.base.feed_settings import FileSink
from muster_agent.feeds.answers import FeedAnswer, message_of
from muster_agent.feeds.sources.base import FeedPlace


class FileAnswers:
    """Appends each answer. Lines that a power cut takes are lost; the file stays readable."""

    def __init__(self, settings: FileSink, place: FeedPlace) -> None:
        self._settings = settings
        self._path = place.directory / settings.path

    async def open(self) -> None:
        await asyncio.to_thread(self._path.parent.mkdir, parents=True, exist_ok=True)

    async def write(self, answer: FeedAnswer) -> None:
        line = message_of(answer, self._settings.value, self._settings.unit) + b"\n"
        await asyncio.to_thread(self._append, line)

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            if file.tell() + len(line) > self._settings.bytes_max:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                with self._path.open("ab") as fresh:
                    fresh.write(line)
                return
            file.write(line)

    async def close(self) -> None:
        """Nothing is kept open."""
