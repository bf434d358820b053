"""An answer that holds until the files it was read from change. Pure but for the stamp it asks."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Remembered(Generic[Answer]):
    """``read()`` anew only when ``stamp()`` differs from that of the last time; thread-safe."""

    def __init__(self, stamp: Callable[[], Hashable], read: Callable[[], Answer]) -> None:
        self._stamp = stamp
        self._read = read
        self._kept: tuple[Hashable, Answer] | None = None

    def __call__(self) -> Answer:
        # The stamp first: what changes while it is read is read again the next time.
        stamp, kept = self._stamp(), self._kept
        if kept is None or kept[0] != stamp:
            self._kept = kept = stamp, self._read()
        return kept[1]
