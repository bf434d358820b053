"""Which waiting windows to merge when the outbox is full: resolution goes evenly, the oldest first.

A pure plan over row sizes; reading and rewriting the rows is the outbox's. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Mergeable(NamedTuple):
    """A waiting summary row."""

    id: int
    manifest: str
    windows: int
    """Windows it already holds."""
    bytes: int


def plan_merges(rows: Sequence[Mergeable], bytes_wanted: int) -> list[tuple[Mergeable, Mergeable]]:
    """Disjoint pairs of neighbours of one manifest that together free about ``bytes_wanted``.

    ``rows`` are in order of time. Pairs that make the finest merged window come first: all singles
    become pairs before any pair becomes a quadruple.
    """
    pairs: list[tuple[Mergeable, Mergeable]] = []
    last: dict[str, Mergeable] = {}
    for row in rows:
        before = last.get(row.manifest)
        if before is not None:
            pairs.append((before, row))
        last[row.manifest] = row
    # sorted() keeps the order of time within a resolution.
    ordered = sorted(pairs, key=lambda pair: _resolution(pair[0].windows + pair[1].windows))
    used: set[int] = set()
    chosen: list[tuple[Mergeable, Mergeable]] = []
    freed = 0
    for first, second in ordered:
        if freed >= bytes_wanted:
            break
        if first.id in used or second.id in used:
            continue
        used |= {first.id, second.id}
        chosen.append((first, second))
        freed += min(first.bytes, second.bytes)
    return chosen


def _resolution(windows: int) -> int:
    """The power of two that a merged window would fill."""
    return (windows - 1).bit_length()
