"""A camera that is asked for pictures: a V4L2 device, a film, or a folder that is shown in a loop.

The newest frame wins: what a camera gives while a picture is being judged is passed over.
"""

import asyncio
import itertools
import logging
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from muster_agent.base.picture_settings import CameraSource
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.sources.base import FeedFault, FeedPlace, require
from muster_protocol.images.decoding import SUFFIXES, ImageError, Pixels, decoded

log = logging.getLogger(__name__)
FRAME_SECONDS = 10.0
"""How long a camera may take to give a frame."""
DEVICES = "/dev/"
OPENCV, PILLOW = ("cv2", "camera"), ("PIL", "images")
Frame = tuple[str, Pixels | None]
"""Its name and pixels; None: it can't be read."""


class Frames(Protocol):
    """Where frames come from. Used from one thread at a time, never the feed's own."""

    def newest(self) -> Frame:
        """The newest frame; waits for one that was not given yet. Raises FeedFault or OSError."""
        ...

    def close(self) -> None:
        """Let the camera go."""
        ...


class LoopedFolder:
    """Pictures of a folder in the order of their names, again and again."""

    def __init__(self, folder: Path) -> None:
        """Raises FeedFault when there is no picture, or no Pillow."""
        require(PILLOW)
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise FeedFault(f"{folder}: no picture in it ({', '.join(sorted(SUFFIXES))})")
        self._paths = enumerate(itertools.cycle(paths), 1)

    def newest(self) -> Frame:
        number, path = next(self._paths)
        name = f"{number}-{path.name}"
        try:
            return name, decoded(path.read_bytes())
        except ImageError as error:
            log.warning("%s: %s", path, error)
            return name, None

    def close(self) -> None:
        """Nothing is open."""


class Film:
    """A file of moving pictures, frame by frame, again and again."""

    def __init__(self, path: Path) -> None:
        """Raises FeedFault when it can't be played."""
        self._path = path
        self._numbers = itertools.count(1)
        self._capture = _opened(str(path))

    def newest(self) -> Frame:
        read, frame = self._capture.read()
        if not read:  # It has ended, or can't be read at all.
            self._capture.release()
            self._capture = _opened(str(self._path))
            read, frame = self._capture.read()
        if not read:
            raise FeedFault(f"{self._path}: no frame in it can be read")
        return f"{next(self._numbers)}-{self._path.name}", _rgb(frame)

    def close(self) -> None:
        self._capture.release()


class VideoDevice:
    """A V4L2 device. It is read in a thread of its own, so that the newest frame is at hand."""

    def __init__(self, settings: CameraSource) -> None:
        """Raises FeedFault when it isn't there."""
        self._device = settings.device
        self._capture = _opened(settings.device, settings.width, settings.height)
        self._fresh = threading.Condition()
        self._latest: tuple[int, Any] | None = None
        self._ended = False
        threading.Thread(target=self._read, name="camera", daemon=True).start()

    def _read(self) -> None:
        for number in itertools.count(1):
            read, frame = self._capture.read()
            with self._fresh:
                self._latest = (number, frame)
                self._ended = self._ended or not read
                self._fresh.notify()
                if self._ended:
                    break
        self._capture.release()

    def newest(self) -> Frame:
        with self._fresh:
            if self._latest is None:
                self._fresh.wait(FRAME_SECONDS)
            if self._ended or self._latest is None:
                raise FeedFault(f"{self._device}: the camera gives no frame")
            number, frame = self._latest
            self._latest = None
        return f"{number}-{Path(self._device).name}", _rgb(frame)

    def close(self) -> None:
        with self._fresh:
            self._ended = True


def _opened(source: str, width: int = 0, height: int = 0) -> Any:
    """OpenCV's reader of a device or a file; raises FeedFault."""
    require(OPENCV)
    import cv2  # noqa: PLC0415 - of an extra

    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        raise FeedFault(f"{source}: no camera or film that can be opened")
    if width and height:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    return capture


def _rgb(frame: Any) -> Pixels:
    """OpenCV gives blue first."""
    return np.ascontiguousarray(frame if frame.ndim == 2 else frame[..., ::-1])


class CameraPictures:
    """Takes a picture every so often, for as long as the camera gives any."""

    def __init__(self, settings: CameraSource, inlet: SourceInlet, place: FeedPlace) -> None:
        self._settings = settings
        self._inlet = inlet
        self._path = place.directory / settings.device

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        frames = await asyncio.to_thread(self._frames)
        self._inlet.connected()
        try:
            due = loop.time()
            while True:
                name, pixels = await asyncio.to_thread(frames.newest)
                judged = await self._inlet.picture(self._settings.signal, name, pixels)
                counted = "judged" if judged and pixels is not None else "unreadable"
                self._inlet.counts[f"pictures_{counted if judged else 'unasked'}"] += 1
                due = max(due + self._settings.every_seconds, loop.time())
                await asyncio.sleep(due - loop.time())  # Then the next picture is due.
        finally:
            frames.close()

    def _frames(self) -> Frames:
        """Opens what the settings name; raises FeedFault."""
        if self._settings.device.startswith(DEVICES):
            return VideoDevice(self._settings)
        try:
            return LoopedFolder(self._path) if self._path.is_dir() else self._film()
        except OSError as error:
            raise FeedFault(f"{self._path}: {error.strerror}") from None

    def _film(self) -> Film:
        if not self._path.is_file():
            raise FeedFault(f"{self._path}: no such device, film or folder")
        return Film(self._path)
