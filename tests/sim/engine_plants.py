"""Bugs of the lease planted on purpose: what a careless engine would do instead."""

from sqlalchemy import text
from sqlmodel import Session

from muster_hub.reconcile.engine import LEASE, Engine, _Standby
from muster_hub.reconcile.lease import LEASE_SECONDS
from sim.engine_world import EngineDoubles

_ROW = text("SELECT holder, expires FROM lease WHERE name = :name")


class Unfenced(Engine):
    """Whoever has the lease when its step begins takes it for the whole step."""

    def _hold(self, session: Session) -> None:
        return


class BelievesItself(Engine):
    """The lease is its own until its own clock says otherwise: it isn't looked at again."""

    _until = float("-inf")

    def _lead(self) -> bool:
        if self._leading and self._now() < self._until:
            return False
        anew = super()._lead()
        self._until = self._now() + LEASE_SECONDS
        return anew

    def _hold(self, session: Session) -> None:
        if self._now() >= self._until:
            super()._hold(session)


class OwnClock(Engine):
    """A lease ends by its own clock, however far behind that is."""

    def _lead(self) -> bool:
        with self._store.read() as session:
            row = session.connection().execute(_ROW, {"name": LEASE}).first()
        if row is not None and row.holder != self._holder and row.expires > self._now():
            raise _Standby
        return super()._lead()


class NeverTakesOver(Engine):
    """Who had the lease first is waited for."""

    def _lead(self) -> bool:
        with self._store.read() as session:
            row = session.connection().execute(_ROW, {"name": LEASE}).first()
        if row is not None and row.holder != self._holder:
            raise _Standby
        return super()._lead()


class Remembers(Engine):
    """What it knew when it last acted is what it goes on from, whoever acted since."""

    def _forget_all(self) -> None:
        self._leading = False


ENGINE_PLANTS = {
    "a lease without a fence": EngineDoubles(engine=Unfenced),
    "the holder trusts its own clock": EngineDoubles(engine=BelievesItself),
    "a lease by one's own clock": EngineDoubles(engine=OwnClock),
    "nobody takes over": EngineDoubles(engine=NeverTakesOver),
    "takes over with what it knew": EngineDoubles(engine=Remembers),
}
"""By name; each is found by one of the promises."""
