"""Only one engine acts, though several may run: a row in the database says which.

Every transaction of an engine begins by holding the row, so one that was thought dead and wakes
up decides nothing any more. The time in it only keeps two healthy engines from taking turns.
"""

from typing import Literal, assert_never

from sqlalchemy import Row, bindparam, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from muster_hub.storage.models import Lease
from muster_hub.storage.tables import target

LEASE_SECONDS = 15.0


Hold = Literal["kept", "new"]
"""Whether nobody else can have acted since this holder last did."""

Verdict = Literal["kept", "renew", "take", "stand by"]
"""Of one who asks for a lease: it is theirs; theirs and to be written anew; free; another's."""


def judge(had: str, expires: float, holder: str, now: float) -> Verdict:
    """Whether ``holder`` may act by a lease that ``had`` holds until ``expires``, by the asker's
    own clock ``now`` (both in seconds). Pure.

    Clocks may differ: what ends later than a whole lease from now was written by a clock that is
    ahead, and keeps nobody out. Clocks decide only who acts next, never whether two act at once:
    that the row does, in which only one name stands.
    """
    left = expires - now
    if had != holder:
        return "stand by" if 0 < left <= LEASE_SECONDS else "take"
    return "kept" if LEASE_SECONDS / 2 < left <= LEASE_SECONDS else "renew"


def kept(session: Session, name: str, holder: str, now: float) -> bool:
    """Whether the lease is this holder's and needs no renewing yet; nothing is written."""
    row = session.connection().execute(_READ, {"of": name}).first()
    return row is not None and judge(row.holder, row.expires, holder, now) == "kept"


def hold(session: Session, name: str, holder: str, now: float) -> Hold | None:
    """Take or keep the lease within the caller's transaction; None when another has it.

    A name belongs to one thread that acts: two that share one could not see that somebody else
    acted in between.
    """
    row = _locked(session, name)
    held: Hold = "kept" if row is not None and row.holder == holder else "new"
    if row is None:
        postgres = session.get_bind().dialect.name == "postgresql"
        insert = postgresql.insert if postgres else sqlite.insert
        fresh = {"name": name, "holder": holder, "expires": now + LEASE_SECONDS}
        session.connection().execute(insert(Lease).on_conflict_do_nothing(), fresh)
        row = _locked(session, name)
        assert row is not None
    match judge(row.holder, row.expires, holder, now):
        case "stand by":
            return None
        case "kept":
            pass
        case "renew" | "take":
            renewed = {"of": name, "by": holder, "until": now + LEASE_SECONDS}
            session.connection().execute(_RENEW, renewed)
        case _ as never:
            assert_never(never)
    return held


def release(session: Session, name: str, holder: str) -> None:
    """Let another engine take over at once."""
    session.connection().execute(_RELEASE, {"of": name, "by": holder})


_NAMED = col(Lease.name) == bindparam("of")
_READ = select(Lease.holder, Lease.expires).where(_NAMED)
_LOCKED = _READ.with_for_update()
_RENEW = (
    update(target(Lease)).where(_NAMED).values(holder=bindparam("by"), expires=bindparam("until"))
)
_RELEASE = delete(target(Lease)).where(_NAMED, col(Lease.holder) == bindparam("by"))


def _locked(session: Session, name: str) -> Row[str, float] | None:
    return session.connection().execute(_LOCKED, {"of": name}).first()
