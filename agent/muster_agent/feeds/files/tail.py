"""Lines of a CSV file as they are appended; a file that is replaced or cut is begun anew."""

import asyncio
import csv
import os
from pathlib import Path
from typing import BinaryIO

from muster_agent.base.feed_settings import CsvSource
from muster_agent.feeds import json_paths
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedFault, FeedPlace

LINE_BYTES_MAX = 1 << 20
READ_BYTES = 1 << 20


class CsvTags:
    """Follows a file. Half a line waits for its end."""

    def __init__(self, settings: CsvSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._path = place.directory / settings.path
        self._from_start = settings.from_start

    async def run(self) -> None:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise FeedFault(f"{self._path}: {error.strerror}") from None
        with file:
            columns = self._columns(file.readline(LINE_BYTES_MAX))
            if not self._from_start:
                file.seek(0, os.SEEK_END)
            self._from_start = True  # What replaces this file is new as a whole.
            self._inlet.connected()
            rest = b""
            while True:
                rest = self._take(rest + file.read(READ_BYTES), columns)
                if len(rest) > LINE_BYTES_MAX:
                    raise FeedFault(f"{self._path}: a line of more than {LINE_BYTES_MAX} bytes")
                if _is_replaced(self._path, file) and not file.peek(1):
                    raise FeedFault(f"{self._path} was replaced: the new file is read")
                await asyncio.sleep(self._settings.every_seconds)  # Nothing says that it grew.

    def _columns(self, head: bytes) -> list[str]:
        names = self._fields(head)
        wanted = {signal: tag.column for signal, tag in self._settings.tags.items()}
        if self._settings.time_column:
            wanted["time_column"] = self._settings.time_column
        known = ", ".join(names)
        for signal, column in wanted.items():
            if column not in names:
                raise FeedFault(
                    f"{self._path} has no column {column!r} ({signal}); there are {known}"
                )
        return names

    def _fields(self, line: bytes) -> list[str]:
        text = line.decode("utf-8-sig", "replace").strip("\r\n")
        return next(csv.reader([text], delimiter=self._settings.delimiter), [])

    def _take(self, data: bytes, columns: list[str]) -> bytes:
        """Give what whole lines hold; what is left."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if line.strip():
                self._line(dict(zip(columns, self._fields(line), strict=False)))
        return rest

    def _line(self, row: dict[str, str]) -> None:
        at = None
        try:
            if self._settings.time_column:
                at = _time_of(row.get(self._settings.time_column, ""))
        except json_paths.NotThereError:
            for signal in self._settings.tags:
                self._inlet.put(signal, None, grade="bad", reason="unreadable")
            return
        for signal, tag in self._settings.tags.items():
            self._inlet.put(signal, row.get(tag.column, "").strip(), at=at)


def _time_of(text: str) -> float:
    try:
        return json_paths.time_of(float(text))
    except ValueError:
        return json_paths.time_of(text.strip())


def _is_replaced(path: Path, file: BinaryIO) -> bool:
    """Whether another file has this name now, or this one was cut."""
    try:
        named, opened = path.stat(), os.fstat(file.fileno())
    except OSError:
        return True
    return named.st_ino != opened.st_ino or named.st_size < file.tell()
