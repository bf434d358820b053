"""Which registers are read together: contiguous ones only, up to what a request may ask. Pure.

A gap in a block is an error of the whole read: a device answers nothing for registers that it does
not have. So registers that no tag names are never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from muster_agent.base.feed_rules import REGISTERS
from muster_agent.base.feed_settings import ModbusTag

Table = Literal["holding", "input", "coil", "discrete"]
REGISTERS_MAX = 125
BITS_MAX = 2000
"""Most that a request may ask for, by the protocol."""


@dataclass(frozen=True)
class Block:
    """Registers that are read in one request, and the signals in them."""

    table: Table
    start: int
    count: int
    signals: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people: ``holding 100-103``."""
        return f"{self.table} {self.start}-{self.start + self.count - 1}"


def blocks(tags: Mapping[str, ModbusTag]) -> list[Block]:
    """Every tag in one block, in as few as there can be."""
    made: list[Block] = []
    order = sorted(tags, key=lambda signal: (tags[signal].table, tags[signal].register))
    for signal in order:
        tag = tags[signal]
        end = tag.register + REGISTERS[tag.type]
        most = BITS_MAX if tag.type == "bit" else REGISTERS_MAX
        last = made[-1] if made else None
        if (
            last is not None
            and last.table == tag.table
            and tag.register <= last.start + last.count
            and max(end, last.start + last.count) - last.start <= most
        ):
            count = max(end, last.start + last.count) - last.start
            made[-1] = Block(last.table, last.start, count, (*last.signals, signal))
        else:
            made.append(Block(tag.table, tag.register, end - tag.register, (signal,)))
    return made
