"""Writers of one process take turns in the order they came, so that none waits while others go on.

SQLite lets whoever asks at the right moment in: a writer that sleeps between two tries is passed by
one that asks all the time, for as long as it does.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that is handed to whoever has waited longest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Wait for one's turn; the next has it when the block ends."""
        with self._lock:
            mine = None if not self._taken else threading.Lock()
            self._taken = True
            if mine is not None:
                mine.acquire()
                self._waiting.append(mine)
        if mine is not None:
            mine.acquire()  # until the one before lets go of it
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._taken = False
