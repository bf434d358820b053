"""Registers, coils and inputs of a device, read again and again."""

import asyncio

from muster_agent.base.feed_rules import REGISTERS
from muster_agent.base.feed_settings import ModbusSource
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.modbus.blocks import Block, blocks
from muster_agent.feeds.modbus.client import ModbusConnection, RefusedError, number_in


class ModbusTags:
    """Reads blocks of registers at their pace. What the device refuses is bad; the rest is read."""

    def __init__(self, settings: ModbusSource, inlet: SourceInlet) -> None:
        self._settings = settings
        self._inlet = inlet
        self._blocks = blocks(settings.tags)

    async def run(self) -> None:
        connection = ModbusConnection(self._settings)
        await connection.open()
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                for block in self._blocks:
                    await self._read(connection, block)
                due = max(due + self._settings.every_seconds, loop.time())
                await asyncio.sleep(due - loop.time())  # Then the next reading is due.
        finally:
            connection.close()

    async def _read(self, connection: ModbusConnection, block: Block) -> None:
        try:
            values = await connection.read(block)
        except RefusedError as error:
            for signal in block.signals:
                self._inlet.put(signal, None, grade="bad", reason="source")
            self._inlet.trouble(str(error))
            return
        for signal in block.signals:
            tag = self._settings.tags[signal]
            first = tag.register - block.start
            held = values[first : first + REGISTERS[tag.type]]
            raw = held[0] if tag.type == "bit" else number_in(held, tag.type, tag.word_order)
            self._inlet.put(signal, raw)
