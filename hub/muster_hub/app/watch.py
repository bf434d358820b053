"""Who watches the watchers: a thread of its own that turns a part's trouble into an alert.

The engine keeps every other alert; those about the hub itself are kept here, for the engine may be
the part that is dead. Then this thread also sees to it that somebody is told.
"""

import logging
import random
import threading
from collections.abc import Callable, Collection, Mapping

from sqlmodel import Session

from muster_hub.alerts import open_step, rules
from muster_hub.alerts import step as telling_step
from muster_hub.alerts.rules import Condition
from muster_hub.heartbeats import Heartbeats, Standing
from muster_hub.reconcile import lease
from muster_hub.reconcile.engine import LEASE
from muster_hub.settings.alerts import Alerts
from muster_hub.storage.disk import Room
from muster_hub.storage.store import Store

LOOK_SECONDS = 2.0
SILENT_SECONDS = 60.0
PASSING_SECONDS = 10.0
"""A part that retries or lags for less than this is not a trouble yet."""
ENGINE = "engine"

_log = logging.getLogger(__name__)
_random = random.SystemRandom()


class Watch:
    """Started, it keeps the alerts about the hub's own parts and its disk."""

    def __init__(
        self,
        store: Store,
        heartbeats: Heartbeats,
        room: Callable[[], Room],
        alerts: Alerts,
        *,
        holder: str,
        now: Callable[[], float],
        lease_clock: lease.Clock | None = None,
        process: str = "",
        others: Callable[[Session], Collection[str]] = lambda _session: (),
    ) -> None:
        """``process`` names this one among the hub's, ``others`` those that keep their own alerts:
        one that has ended leaves its alerts to those that live.
        """
        self._store = store
        self._heartbeats = heartbeats
        self._room = room
        self._alerts = alerts
        self._holder = f"{holder} (watch)"
        self._now = now
        self._process = process
        self._others = others
        self._lease_clock = lease_clock or (lambda _session: now())
        self._part = heartbeats.part("watch", SILENT_SECONDS)
        self._stopping = threading.Event()
        run = self._part.watching(self._run)
        self._thread = threading.Thread(target=run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to watch the hub's parts, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> int:
        """Bring the alerts about the hub in line with how it stands; how many changed."""
        self._part.alive()
        standings = self._heartbeats.standings()
        present = conditions(standings, self._room(), self._process)
        now = self._now()
        with self._store.write() as session:
            foreign = tuple(f"hub/{name}/" for name in self._others(session))
            changed = open_step.keep(
                session, present, now,
                kind=rules.HUB, mine=lambda key: not key.startswith(foreign),
            )  # fmt: skip
            if ENGINE in standings and not standings[ENGINE].ok:
                self._notify(session, now)
        return changed

    def _notify(self, session: Session, now: float) -> None:
        """Do what the engine would: queue notices; unless another hub's engine does it.

        Given back with the commit, under an epoch of its own: an engine that only hung finds when
        it wakes up that its decisions are old.
        """
        clock = self._lease_clock(session)
        if epoch := lease.take(session, LEASE, self._holder, lease.NONE, clock):
            telling_step.step(session, self._alerts, now)
            lease.release(session, LEASE, epoch)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS * _random.uniform(0.8, 1.2)):
            try:
                self.look()
            except Exception as error:
                _log.exception("the hub's own alerts could not be kept")
                self._part.retrying(error)
            else:
                self._part.beat()


def conditions(standings: Mapping[str, Standing], room: Room, process: str = "") -> list[Condition]:
    """The troubles of the hub itself. Pure."""
    found = [
        rules.hub_part(name, standing.state, standing.detail, process)
        for name, standing in sorted(standings.items())
        if not standing.ok
        and (standing.state in ("dead", "ended", "silent") or standing.seconds > PASSING_SECONDS)
    ]
    if room.state != "ok":
        found.append(
            rules.hub_part(
                "disk", room.state, f"{room}: make room or give it a larger one", process
            )
        )
    return found
