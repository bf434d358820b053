"""A folder into which a camera's software drops pictures: each is judged once, in their order."""

import asyncio
import logging
import os
import stat
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from muster_agent.base.picture_settings import ImagesSource
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_protocol.images.decoding import SUFFIXES, ImageError, Pixels, decoded

log = logging.getLogger(__name__)
LISTED_MAX = 100_000
"""Entries of the folder that one look takes in."""
UNASKED_SECONDS = 1.0
"""How long a picture that nobody asked about waits for another try."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A link or a pipe in the folder is no picture."""
Shelf = Literal["done", "bad"]


@dataclass(frozen=True)
class DroppedFile:
    """A file of the folder as it was seen."""

    name: str
    size: int
    changed_ns: int
    """Its time of change; nanoseconds since 1970."""
    inode: int


class DroppedPictures:
    """Gives one picture at a time, the oldest first. What can't be read is named and counted."""

    def __init__(self, settings: ImagesSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._folder = place.directory / settings.path
        self._seen: dict[DroppedFile, float] = {}
        """Since when each file is as it is."""
        self._judged: set[DroppedFile] = set()
        """Files that stay in the folder though they were judged."""
        self._shelves: dict[Shelf, dict[str, None]] = {}
        """Names of what was put aside, the oldest first."""
        self._begun = False
        self._answers = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._begun and self._settings.done == "keep":
            self._judged = set(await asyncio.to_thread(self._listed))
        self._begun = True
        while True:
            waiting = await asyncio.to_thread(self._waiting, loop.time())
            self._inlet.connected()
            if not waiting:
                await asyncio.sleep(self._settings.every_seconds)  # Nothing says that a file came.
            elif not await self._judge(waiting[0]):
                await asyncio.sleep(UNASKED_SECONDS)  # The slot has no model to ask now.

    def _waiting(self, now: float) -> list[DroppedFile]:
        """Pictures to be judged, the oldest first; raises FeedFault."""
        return self._skip(self._settled(now))

    def _listed(self) -> list[DroppedFile]:
        """Pictures of the folder; raises FeedFault."""
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in islice(entries, LISTED_MAX):
                    if Path(entry.name).suffix.lower() not in SUFFIXES:
                        continue
                    try:
                        at = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # It was taken away meanwhile.
                    if stat.S_ISREG(at.st_mode):
                        found.append(DroppedFile(entry.name, at.st_size, at.st_mtime_ns, at.st_ino))
        except OSError as error:
            raise FeedFault(f"{self._folder}: {error.strerror}") from None
        return found

    def _settled(self, now: float) -> list[DroppedFile]:
        """Files that nobody writes to any more, the oldest first."""
        there = self._listed()
        self._seen = {file: self._seen.get(file, now) for file in there}
        self._judged &= set(there)
        ready = [
            file
            for file, since in self._seen.items()
            if now - since >= self._settings.settle_seconds and file not in self._judged
        ]
        return sorted(ready, key=lambda file: (file.changed_ns, file.name))

    def _skip(self, waiting: list[DroppedFile]) -> list[DroppedFile]:
        """Those that may wait; the others are put aside, once it is known that anybody asks."""
        beyond = max(len(waiting) - self._settings.waiting_files_max, 0) if self._answers else 0
        for file in waiting[:beyond]:
            self._put_aside(file, "done")
        if beyond:
            self._inlet.counts["pictures_skipped"] += beyond
            words = f"{beyond} pictures are not judged: more than waiting_files_max waited"
            log.warning("%s: %s, from %s on", self._folder, words, waiting[0].name)
            self._inlet.trouble(words)
        return waiting[beyond:]

    async def _judge(self, file: DroppedFile) -> bool:
        """Whether anybody asked about it; then it is put aside."""
        pixels: Pixels | None = None
        try:
            pixels = await asyncio.to_thread(self._read, file)
        except FileNotFoundError:
            return True
        except ImageError as error:
            self._inlet.counts["pictures_unreadable"] += 1
            log.warning("%s: %s", self._folder / file.name, error)
            self._inlet.trouble(f"{file.name}: {error}")
        signal, at = self._settings.signal, file.changed_ns / 1e9
        self._answers = await self._inlet.picture(signal, file.name, pixels, at=at)
        if self._answers:
            self._inlet.counts["pictures_judged"] += pixels is not None
            await asyncio.to_thread(self._put_aside, file, "bad" if pixels is None else "done")
        return self._answers

    def _read(self, file: DroppedFile) -> Pixels:
        """Raises ImageError, and FileNotFoundError when it is gone."""
        most = self._settings.file_bytes_max
        try:
            with open(os.open(self._folder / file.name, _OPEN), "rb") as opened:  # noqa: PTH123 - its flags matter
                data = opened.read(most + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ImageError(str(error.strerror)) from None
        if len(data) > most:
            raise ImageError(f"more than {most} bytes, which is file_bytes_max")
        return decoded(data, pixels_max=self._settings.pixels_max)

    def _put_aside(self, file: DroppedFile, shelf: Shelf) -> None:
        """As ``done`` says. A file that stays, for whatever reason, is not judged again."""
        done = self._settings.done
        path = self._folder / file.name
        self._judged.add(file)
        try:
            if done == "move" or (done == "delete" and shelf == "bad"):
                self._shelve(path, shelf)
            elif done == "delete":
                path.unlink(missing_ok=True)
        except OSError as error:
            words = f"{file.name} stays, as it can't be put aside: {error.strerror}"
            log.warning("%s: %s", self._folder, words)
            self._inlet.trouble(words)

    def _shelve(self, path: Path, shelf: Shelf) -> None:
        """Move it to a folder that keeps so many."""
        folder = self._folder / shelf
        names = self._shelves.get(shelf)
        if names is None:
            folder.mkdir(exist_ok=True)
            there = sorted(folder.iterdir(), key=lambda each: each.lstat().st_mtime_ns)
            names = self._shelves[shelf] = dict.fromkeys(each.name for each in there)
        path.replace(folder / path.name)
        names.pop(path.name, None)
        names[path.name] = None
        while len(names) > self._settings.done_files_max:
            oldest = next(iter(names))
            del names[oldest]
            (folder / oldest).unlink(missing_ok=True)
