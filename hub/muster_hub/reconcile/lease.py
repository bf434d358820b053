"""Only one acts in a role, though several may run: a row in the database says which.

Whoever takes the row gives it the next epoch and remembers that. Every transaction of the role
begins by holding the row at that epoch, so one that was thought dead and wakes up changes nothing
any more, whatever its name and its clock. The time in the row, which is the database's, only
decides who acts next.
"""

import time
from collections.abc import Callable
from typing import Literal, assert_never

from sqlalchemy import Row, bindparam, func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from muster_hub.storage.models import Lease
from muster_hub.storage.tables import target

LEASE_SECONDS = 6.0
"""One that was killed is followed by its stand-by after at most this and the stand-by's tick."""
RENEW_SECONDS = LEASE_SECONDS / 2
"""After so long a holder renews, with the next thing that it does."""
NONE = 0
"""The epoch of one that holds nothing; no row has it."""

Verdict = Literal["kept", "renew", "take", "stand by"]
"""Of one who asks for a lease: it is theirs; theirs and to be written anew; free; another's."""
Clock = Callable[[Session], float]
"""Tells the time in seconds, within a session."""


def judge(had: tuple[str, int], expires: float, asks: tuple[str, int], now: float) -> Verdict:
    """Whether one that ``asks``, by its name and the epoch it was given, may act by a lease that
    name and epoch ``had`` hold until ``expires``; ``now`` is by the same clock (both in seconds).
    Pure.

    What ends later than a whole lease from now was written before the clock was set back, and
    keeps nobody out. Whoever has the name and no epoch yet was started anew, and need not wait.
    """
    left = expires - now
    if had == asks:
        return "kept" if LEASE_SECONDS - RENEW_SECONDS < left <= LEASE_SECONDS else "renew"
    if had[0] == asks[0] and asks[1] == NONE:
        return "take"
    return "stand by" if 0 < left <= LEASE_SECONDS else "take"


def kept(session: Session, name: str, holder: str, epoch: int, now: float) -> bool:
    """Whether the lease is this holder's and needs no renewing yet; nothing is written."""
    row = session.connection().execute(_READ, {"of": name}).first()
    asks = holder, epoch
    return row is not None and judge((row.holder, row.epoch), row.expires, asks, now) == "kept"


def take(session: Session, name: str, holder: str, epoch: int, now: float) -> int:
    """Take, keep or renew the lease within the caller's transaction; the epoch to act under, or
    ``NONE`` when another has it. Another epoch than ``epoch``: somebody may have acted since.
    """
    row = _locked(session, name)
    if row is None:
        postgres = session.get_bind().dialect.name == "postgresql"
        insert = postgresql.insert if postgres else sqlite.insert
        fresh = {"name": name, "holder": "", "expires": 0.0, "epoch": NONE}
        session.connection().execute(insert(Lease).on_conflict_do_nothing(), fresh)
        row = _locked(session, name)
        assert row is not None
    match judge((row.holder, row.epoch), row.expires, (holder, epoch), now):
        case "stand by":
            return NONE
        case "kept":
            return epoch
        case "renew":
            following = epoch
        case "take":
            following = row.epoch + 1
        case _ as never:
            assert_never(never)
    session.connection().execute(
        _WRITE, {"of": name, "by": holder, "until": now + LEASE_SECONDS, "under": following}
    )
    return following


def fenced(session: Session, name: str, epoch: int) -> bool:
    """Whether this epoch is over, so that the caller's transaction must change nothing; if not, it
    goes on at least until that transaction ends.
    """
    row = _locked(session, name)
    return row is None or epoch == NONE or row.epoch != epoch


def release(session: Session, name: str, epoch: int) -> None:
    """Let another take over at once. The row stays, for the epoch never goes back."""
    session.connection().execute(_RELEASE, {"of": name, "under": epoch})


def database_time(session: Session) -> float:
    """The time by the database's clock, in seconds; a file's is its machine's."""
    if session.get_bind().dialect.name == "sqlite":
        return time.time()
    return float(session.connection().execute(_NOW).scalar_one())


_NAMED = col(Lease.name) == bindparam("of")
_READ = select(Lease.holder, Lease.epoch, Lease.expires).where(_NAMED)
_LOCKED = _READ.with_for_update()
_NOW = select(func.extract("epoch", func.clock_timestamp()))
_WRITE = (
    update(target(Lease))
    .where(_NAMED)
    .values(holder=bindparam("by"), expires=bindparam("until"), epoch=bindparam("under"))
)
_RELEASE = (
    update(target(Lease))
    .where(_NAMED, col(Lease.epoch) == bindparam("under"))
    .values(holder="", expires=0.0)
)


def _locked(session: Session, name: str) -> Row[str, int, float] | None:
    return session.connection().execute(_LOCKED, {"of": name}).first()
