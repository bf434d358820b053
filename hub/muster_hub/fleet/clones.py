"""Two machines with one identity: what tells of them. Pure.

Each takes the broker's connection from the other, again and again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LOOK_BACK_SECONDS = 900.0
"""How far back takeovers count."""
TURNS_MIN = 4
"""Takeovers to and fro between two addresses; a device that moves takes its own over once."""
SAME_ADDRESS_MIN = 8
"""... and where both stand behind one address, or a single one has a very bad line."""


@dataclass(frozen=True)
class Handover:
    """A takeover: the address that has the connection now, and the one that had it."""

    address: str
    before: str


def fighting(taken: Iterable[Handover]) -> tuple[str, ...]:
    """The addresses that take a connection from each other, sorted; empty when none do."""
    turns: dict[tuple[str, str], int] = {}
    for each in taken:
        if each.before:
            turns[each.before, each.address] = turns.get((each.before, each.address), 0) + 1
    for (first, second), count in sorted(turns.items()):
        back = turns.get((second, first), 0)
        if first == second and count >= SAME_ADDRESS_MIN:
            return (first,)
        if first != second and back and count + back >= TURNS_MIN:
            return tuple(sorted((first, second)))
    return ()
