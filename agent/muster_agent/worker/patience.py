"""Which client makes way when connections or memory run short: the one waited for longest."""

from collections.abc import Iterable

from muster_agent.worker.connection import Connection

PATIENCE_SECONDS = 1.0
"""Where connections or memory run short, a client that takes longer than this makes way."""
IDLE_PATIENCE_SECONDS = 0.1
"""Likewise, one that has been answered and asks nothing: a client that opens a connection for each
request and closes none must leave room for others."""
SMALL_BYTES = 64 * 1024
"""A request of so much is taken whatever else is held."""


def held_bytes(connections: Iterable[Connection]) -> int:
    """Of requests not answered and answers not taken."""
    return sum(each.held_bytes for each in connections)


def owed_bytes(connections: Iterable[Connection]) -> int:
    """Of answers not taken."""
    return sum(len(each.out) for each in connections)


def for_memory(connections: Iterable[Connection], asking: Connection, now: float) -> Connection:
    """Whose request or answer goes so that another's fits: of large ones, else who asks."""
    large = [each for each in connections if each is not asking and each.held_bytes > SMALL_BYTES]
    slowest = max(large, key=lambda each: each.waits(now), default=asking)
    return slowest if slowest.waits(now) > PATIENCE_SECONDS else asking


def for_answer(
    connections: Iterable[Connection], asking: Connection, now: float
) -> Connection | None:
    """Who took no answer for too long; None when that is nobody, or who asks."""
    slowest = max(
        (each for each in connections if each.out), key=lambda each: now - each.since, default=None
    )
    if slowest is None or slowest is asking or now - slowest.since <= PATIENCE_SECONDS:
        return None
    return slowest


def for_client(connections: Iterable[Connection], now: float) -> Connection | None:
    """Who leaves room for a new client; None when nobody takes long."""
    every = list(connections)
    for some, patience_seconds in (
        ([each for each in every if each.idle], IDLE_PATIENCE_SECONDS),
        (every, PATIENCE_SECONDS),
    ):
        slowest = max(some, key=lambda each: each.waits(now), default=None)
        if slowest is not None and slowest.waits(now) > patience_seconds:
            return slowest
    return None
