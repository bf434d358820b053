"""A device shows the metadata it trusts: the hub goes on from them where its own keys signed."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from muster_protocol.wire.messages import Shown

EVERY_SECONDS = 10.0
"""Shown metadata are looked at this often at most, from all devices together."""
_log = logging.getLogger(__name__)


class Catalogue(Protocol):
    """The catalogue, as far as metadata that a device shows matter to it."""

    def catch_up(self, device: str, timestamp: bytes, snapshot: bytes, now: float) -> bool:
        """Take over newer versions that carry this hub's own signatures; False when they don't."""
        ...


class Showing:
    """Called with a device and what it shows. Raises CatalogueError for what proves nothing."""

    def __init__(
        self,
        catalogue: Catalogue,
        published: Callable[[], None],
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``published`` is called when there is something to publish."""
        self._catalogue = catalogue
        self._published = published
        self._now = now
        self._monotonic = monotonic
        self._looked = float("-inf")

    def __call__(self, device: str, shown: Shown) -> None:
        if self._monotonic() - self._looked < EVERY_SECONDS:
            return
        self._looked = self._monotonic()
        if self._catalogue.catch_up(device, shown.timestamp, shown.snapshot, self._now()):
            _log.warning("%s showed newer metadata than this hub had: was it restored?", device)
            self._published()
