"""Takeovers become events of their device, by which the engine's step opens an alert."""

import logging
from collections.abc import Callable

from muster_hub.mqtt.takeovers import Takeovers
from muster_hub.storage.models import Device, EventRow
from muster_hub.storage.store import Store

_log = logging.getLogger(__name__)


class TakeoverLog:
    """Called with every line of the broker's log."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._takeovers = Takeovers()

    def __call__(self, line: str) -> None:
        """Note the takeover that the line tells of; a database that is busy loses it."""
        now = self._now()
        taken = self._takeovers.read(line, now)
        if taken is None:
            return
        detail = f"{taken.address} took its connection from {taken.before or 'another'}"
        try:
            with self._store.write() as session:
                if session.get(Device, taken.device) is None:
                    return  # The hub's own connections are no device's.
                session.add(
                    EventRow(
                        device=taken.device,
                        kind="takeover",
                        received=now,
                        detail=detail,
                        data={"address": taken.address, "before": taken.before},
                    )
                )
        except Exception:
            # The broker's log is read on; two machines take over again and again.
            _log.exception("a takeover of %s could not be noted", taken.device)
