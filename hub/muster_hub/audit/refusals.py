"""Refused requests in the audit log: who tried what, a few rows a minute for each of them.

Whoever is refused over and over can't fill the log: what is left out is counted, and told in their
next row.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from muster_hub.audit import log
from muster_hub.storage.store import Store

ACTION = "access.refused"
BURST_ROWS = 20
ROWS_PER_MINUTE = 5.0
ACTORS_MAX = 10_000
"""Remembered; the one that was refused longest ago goes first."""
WORDS_CHARS_MAX = 300


@dataclass
class _Left:
    rows: float
    at: float
    unwritten: int = 0


class Refusals:
    """Writes rows; safe from any thread."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._lock = threading.Lock()
        self._left: OrderedDict[str, _Left] = OrderedDict()

    def record(self, actor: str, act: str, on: str, why: str) -> None:
        """Write that ``actor`` was refused ``act`` on something, unless that is too much."""
        now = self._now()
        unwritten = self._take(actor, now)
        if unwritten is None:
            return
        with self._store.write() as session:
            log.append(
                session,
                actor=actor,
                action=ACTION,
                subject=act,
                now=now,
                on=_cut(on),
                why=_cut(why),
                **({"not_written_before": unwritten} if unwritten else {}),
            )

    def _take(self, actor: str, now: float) -> int | None:
        """How many refusals were left out since the last row; None: leave this one out, too."""
        with self._lock:
            left = self._left.pop(actor, None) or _Left(BURST_ROWS, now)
            self._left[actor] = left
            while len(self._left) > ACTORS_MAX:
                self._left.popitem(last=False)
            passed = max(now - left.at, 0.0)
            left.rows = min(float(BURST_ROWS), left.rows + passed * ROWS_PER_MINUTE / 60)
            left.at = now
            if left.rows < 1:
                left.unwritten += 1
                return None
            left.rows -= 1
            unwritten, left.unwritten = left.unwritten, 0
        return unwritten


def _cut(words: str) -> str:
    return "".join(sign for sign in words[:WORDS_CHARS_MAX] if sign.isprintable())
