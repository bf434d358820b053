"""Devices as the engine knows them: read once, then followed by what changed."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col, or_

from muster_hub.fleet.known import HEARD_SECONDS, Known
from muster_hub.storage import changes, models

OVERLAP_SECONDS = 3.0
"""A change may be committed a little after the moment it is marked with; read that far back."""
DEVICES_PER_QUERY = 1_000
_DEVICE = models.Device
_ID = col(_DEVICE.id)
_STAMPS = (
    _ID, col(_DEVICE.last_seen), col(_DEVICE.online_changed), col(_DEVICE.revision),
)  # fmt: skip
_LATELY = sqlalchemy.select(*_STAMPS).where(
    or_(
        col(_DEVICE.last_seen) >= bindparam("since"),
        col(_DEVICE.online_changed) >= bindparam("since"),
    )
)
_CHANGED = sqlalchemy.select(*_STAMPS).where(col(_DEVICE.revision) > bindparam("number"))
_WHOLE = sqlalchemy.select(
    *_STAMPS, col(_DEVICE.labels), col(_DEVICE.online), col(_DEVICE.reported),
    col(_DEVICE.report), col(_DEVICE.approved), col(_DEVICE.revoked), col(_DEVICE.created),
    col(_DEVICE.retries), col(_DEVICE.diagnoses), col(_DEVICE.feed_watches),
    col(_DEVICE.restarts), col(_DEVICE.restart_until),
    col(_DEVICE.log_watches), col(_DEVICE.log_watched),
)  # fmt: skip
_SOME = _WHOLE.where(_ID.in_(bindparam("devices", expanding=True)))

Stamp = tuple[float | None, float | None, int]


class Fleet:
    """``follow`` brings the picture up to date; ``known`` is it.

    What devices tell is marked with its time and found by that; what anybody else changes of them
    (labels, approval, revocation) is numbered and found by its number.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._stamps: dict[str, Stamp] = {}
        self._heard: list[tuple[float, str]] = []
        """A heap of when devices were heard of, each time."""
        self._judges = True
        self._until = float("-inf")
        self._numbers: tuple[int, int] | None = None

    @property
    def known(self) -> Mapping[str, Known]:
        """Every device as decisions see it, by id."""
        return self._known

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._numbers = None

    def follow(self, session: Session, now: float, *, judges_silence: bool = True) -> set[str]:
        """Read what changed; the devices that did, those fallen silent and those gone included.

        Without ``judges_silence`` nobody is taken as offline for saying nothing: it may be the hub
        that doesn't hear.
        """
        self._judges = judges_silence
        numbers, before = changes.latest(session), self._numbers
        gone: set[str] = set()
        if before is None or before[1] != numbers[1] or now < self._until - OVERLAP_SECONDS:
            rows: Sequence[Any] = session.connection().execute(_WHOLE).all()
            gone = self._known.keys() - {row.id for row in rows}
            self._known = {row.id: self._known[row.id] for row in rows if row.id in self._known}
            self._stamps, self._heard = {}, []
        else:
            rows = self._changed(session, None if before == numbers else before[0])
        changed = {row.id for row in rows if self._take(row, now)}
        self._until, self._numbers = now, numbers
        return changed | gone | self._fallen_silent(now)

    def _changed(self, session: Session, number: int | None) -> Sequence[Any]:
        """Rows that differ from what is known; ``number``: of the latest change known, if there are
        later ones."""
        connection = session.connection()
        since = self._until - OVERLAP_SECONDS
        found = list(connection.execute(_LATELY, {"since": since}))
        if number is not None:
            found += connection.execute(_CHANGED, {"number": number})
        fresh = sorted({row.id for row in found if self._stamps.get(row.id) != _stamp(row)})
        rows: list[Any] = []
        for first in range(0, len(fresh), DEVICES_PER_QUERY):
            some = fresh[first : first + DEVICES_PER_QUERY]
            rows += connection.execute(_SOME, {"devices": some})
        return rows

    def _take(self, row: Any, now: float) -> bool:
        """Know a device as it is now; whether that is news."""
        heard = row.last_seen is None or now - row.last_seen < HEARD_SECONDS or not self._judges
        fresh = Known(
            id=row.id,
            labels=row.labels,
            online=row.online and heard,
            report=row.report,
            reported=row.reported,
            last_seen=row.last_seen,
            active=row.approved and not row.revoked,
            created=row.created,
            retries=row.retries,
            diagnoses=row.diagnoses,
            feed_watches=row.feed_watches,
            restarts=row.restarts,
            restart_until=row.restart_until,
            log_watches=row.log_watches,
            log_watched=row.log_watched,
            revision=row.revision,
        )
        self._stamps[row.id] = _stamp(row)
        if row.last_seen is not None:
            heapq.heappush(self._heard, (row.last_seen, row.id))
        if self._known.get(row.id) == fresh:
            return False
        self._known[row.id] = fresh
        return True

    def _fallen_silent(self, now: float) -> set[str]:
        silent = set()
        while self._judges and self._heard and now - self._heard[0][0] >= HEARD_SECONDS:
            last_seen, name = heapq.heappop(self._heard)
            device = self._known.get(name)
            if device is not None and device.online and device.last_seen == last_seen:
                self._known[name] = replace(device, online=False)
                silent.add(name)
        return silent


def _stamp(row: Any) -> Stamp:
    return row.last_seen, row.online_changed, row.revision
