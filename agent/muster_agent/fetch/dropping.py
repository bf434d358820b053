"""Taking up an imported folder: its chunks into the store, then its metadata and directive.

A few chunks at a time, so that nothing else waits. Metadata are offered as long as verification may
still ask for more of them; a folder that was taken up, or refused, is removed.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from muster_agent.fetch.drop import Drop
from muster_agent.storage.content import Store

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
STEP_CHUNKS = 8
OFFER_SECONDS = 45.0
"""How long metadata are offered: longer than verification waits for what doesn't come."""
OFFER_EVERY_SECONDS = 1.0


class Dropping:
    """Times are monotonic seconds."""

    def __init__(
        self,
        directory: Path | None,
        store: Store,
        *,
        metadata: Callable[[str, bytes, float], None],
        directive: Callable[[bytes, float], None],
        refetch: Callable[[float], None],
        now: float,
    ) -> None:
        """``directory`` is the agent's, None where no folder can come.

        ``refetch`` is called when chunks have come that a fetch may be asking for.
        """
        self._directory = directory
        self._store = store
        self._metadata = metadata
        self._directive = directive
        self._refetch = refetch
        self._look_at = now if directory is not None else float("inf")
        self._drop: Drop | None = None
        self._chunks: Iterator[tuple[str, bytes]] | None = None
        self._until = now

    def deadline(self) -> float:
        """When ``tick`` is next worth calling, in monotonic seconds."""
        return self._look_at

    def tick(self, now: float) -> None:
        """Take up a folder that ``muster-agent import`` has put in place."""
        if now < self._look_at or self._directory is None:
            return
        self._look_at = now + LOOK_SECONDS
        if self._drop is None:
            self._drop = Drop.find(self._directory)
            if self._drop is None:
                return
            log.info("taking up an imported folder")
            self._chunks = self._drop.chunks()
        if self._chunks is not None:
            self._keep(self._drop, self._chunks, now)
        else:
            self._offer(self._drop, now)

    def _keep(self, drop: Drop, chunks: Iterator[tuple[str, bytes]], now: float) -> None:
        self._look_at = now
        for _ in range(STEP_CHUNKS):
            named = next(chunks, None)
            if named is None:
                self._chunks = None
                self._until = now + OFFER_SECONDS
                self._refetch(now)
                self._offer(drop, now)
                if drop.directive:
                    self._directive(drop.directive, now)
                return
            if not self._store.has(named[0]):
                self._store.put(*named)

    def _offer(self, drop: Drop, now: float) -> None:
        if now >= self._until:
            drop.remove()
            self._drop = None
            return
        for file, data in drop.tuf.items():
            self._metadata(file, data, now)
        self._look_at = now + OFFER_EVERY_SECONDS
