"""Devices as the engine knows them: read once, then followed by what changed."""

from collections.abc import Mapping
from dataclasses import replace

from sqlmodel import Session, col, or_, select

from muster_hub.fleet.known import HEARD_SECONDS, Known
from muster_hub.storage import models

OVERLAP_SECONDS = 3.0
"""A change may be committed a little after the moment it is marked with; read that far back."""


class Fleet:
    """``follow`` brings the picture up to date; ``known`` is it.

    What devices tell is marked with its time and found by that. What operators change (labels,
    approval, revocation) comes with ``everything``, which reads the whole table anew.
    """

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._connected: dict[str, bool] = {}
        self._until = float("-inf")

    @property
    def known(self) -> Mapping[str, Known]:
        """Every device as decisions see it, by id."""
        return self._known

    def follow(self, session: Session, now: float, *, everything: bool) -> set[str]:
        """Read what changed; the devices that did, those fallen silent included."""
        device = models.Device
        query = select(  # type: ignore[call-overload]  # SQLModel types up to four columns
            device.id, device.labels, device.online, device.last_seen, device.reported,
            device.report, device.approved, device.revoked, device.created, device.retries,
        )  # fmt: skip
        if everything or now < self._until - OVERLAP_SECONDS:
            self._known, self._connected = {}, {}
        else:
            since = self._until - OVERLAP_SECONDS
            query = query.where(
                or_(col(device.last_seen) >= since, col(device.online_changed) >= since)
            )
        changed = set()
        for row in session.exec(query):
            heard = row.last_seen is None or now - row.last_seen < HEARD_SECONDS
            self._connected[row.id] = row.online
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
            )
            if self._known.get(row.id) != fresh:
                self._known[row.id] = fresh
                changed.add(row.id)
        self._until = now
        return changed | self._fallen_silent(now)

    def _fallen_silent(self, now: float) -> set[str]:
        silent = {
            device.id
            for device in self._known.values()
            if device.online
            and device.last_seen is not None
            and now - device.last_seen >= HEARD_SECONDS
        }
        for name in silent:
            self._known[name] = replace(self._known[name], online=False)
        return silent
