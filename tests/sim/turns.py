"""Work that can stand still or die at points of its own: a thread that moves only in its turn.

Only one thread of a world ever runs: the world hands a turn to some work and waits until that
pauses or ends. So any order of the steps of several programs can be lived, the same one each time.
"""

import threading
from collections.abc import Callable


class Killed(BaseException):
    """The program that did the work is no more. Nothing may catch it but what undoes a
    transaction."""


class Work:
    """``act`` runs in turns. ``resume`` and ``kill`` are the world's, ``pause`` is the work's."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._mine, self._world = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self._pause_seconds: float | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def resume(self) -> float | None:
        """Go on until it pauses, for so many seconds, or ends: None. Raises what the work did."""
        self._pause_seconds = None
        self._mine.release()
        self._world.acquire()
        if self._pause_seconds is None:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return self._pause_seconds

    def kill(self) -> None:
        """It dies where it stands; what it had not committed is undone."""
        self._killed = True
        try:
            while self.resume() is not None:
                pass
        except Killed:
            return

    def pause(self, seconds: float) -> None:
        """Called within the work: it goes on when the world says so."""
        self._pause_seconds = seconds
        self._world.release()
        self._mine.acquire()
        if self._killed:
            raise Killed

    def _run(self) -> None:
        self._mine.acquire()
        try:
            if not self._killed:
                self._act()
        except BaseException as error:  # the world raises it in its own thread
            self._error = error
        self._pause_seconds = None
        self._world.release()
