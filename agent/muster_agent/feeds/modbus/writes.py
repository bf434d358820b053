"""Answers in registers and coils of a PLC: those in the settings, where that is allowed."""

from muster_agent.base.feed_settings import ModbusSink, ModbusWrite
from muster_agent.feeds.answers import QUALITY_CODES, FeedAnswer, written
from muster_agent.feeds.modbus.client import ModbusConnection, registers_of
from muster_agent.feeds.sources.base import FeedFault

HEARTBEATS = 2**16


class ModbusWrites:
    """Writes each answer, or the safe value, its quality, and then counts the heartbeat up.

    The heartbeat comes last: a PLC that sees it move knows that what is before it is there.
    """

    def __init__(self, settings: ModbusSink) -> None:
        self._settings = settings
        self.beats = settings.heartbeat_register is not None
        self._connection: ModbusConnection | None = None
        self._beat = 0

    async def open(self) -> None:
        if not self._settings.allow_writes:
            return
        connection = ModbusConnection(self._settings)
        await connection.open()
        self._connection = connection

    async def write(self, answer: FeedAnswer) -> None:
        if not self._settings.allow_writes:
            return
        if self._connection is None:
            raise FeedFault("not connected")
        for item in self._settings.writes.values():
            await self._put(self._connection, item, written(answer, item))
        if self._settings.quality_register is not None:
            code = QUALITY_CODES[answer.grade]
            await self._connection.write_registers(self._settings.quality_register, [code])
        if self._settings.heartbeat_register is not None:
            self._beat = (self._beat + 1) % HEARTBEATS
            await self._connection.write_registers(self._settings.heartbeat_register, [self._beat])

    async def _put(self, connection: ModbusConnection, item: ModbusWrite, value: float) -> None:
        if item.type == "bit":
            await connection.write_coil(item.register, on=value >= 0.5)
            return
        registers = registers_of(value * item.scale, item.type, item.word_order)
        await connection.write_registers(item.register, registers)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
