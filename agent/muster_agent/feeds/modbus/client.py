"""A Modbus device as sources and sinks use it, by TCP or on a serial line (RTU).

Errors come back as answers, not as exceptions: each is looked at here, and named.
"""

import asyncio
import termios
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, assert_never

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from muster_agent.base.feed_settings import ModbusAddress, NumberType
from muster_agent.feeds.modbus import line
from muster_agent.feeds.modbus.blocks import Block
from muster_agent.feeds.sources.base import FeedFault
from muster_protocol.wire.addresses import joined

_TYPES = {
    "int16": AsyncModbusTcpClient.DATATYPE.INT16,
    "uint16": AsyncModbusTcpClient.DATATYPE.UINT16,
    "int32": AsyncModbusTcpClient.DATATYPE.INT32,
    "uint32": AsyncModbusTcpClient.DATATYPE.UINT32,
    "int64": AsyncModbusTcpClient.DATATYPE.INT64,
    "uint64": AsyncModbusTcpClient.DATATYPE.UINT64,
    "float32": AsyncModbusTcpClient.DATATYPE.FLOAT32,
    "float64": AsyncModbusTcpClient.DATATYPE.FLOAT64,
}
_MEANINGS = {
    1: "it knows no such function",
    2: "it has not all of these registers: name only those that its manual lists",
    3: "it does not take this value",
    4: "it failed",
    6: "it is busy",
}
"""Exception codes of the protocol."""


class RefusedError(FeedFault):
    """The device answered, with an error: of these registers, not of the connection."""


class ModbusConnection:
    """One connection; a lost one stays lost."""

    def __init__(self, address: ModbusAddress) -> None:
        self._address = address
        place = address.serial_port or joined(address.host, address.port)
        self._where = f"unit {address.unit_id} at {place}"
        self._line: line.SerialLine | None = None
        self._turn = asyncio.Lock()
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if address.serial_port:
            self._line = line.join(address)
            self._client, self._turn = self._line.client, self._line.turn
            return
        self._client = AsyncModbusTcpClient(
            address.host,
            port=address.port,
            timeout=address.timeout_seconds,
            retries=0,
            reconnect_delay=0,
        )

    async def open(self) -> None:
        """Connect; raises FeedFault."""
        try:
            async with self._turn:
                connected = self._client.connected or await self._client.connect()
        except (ModbusException, OSError, termios.error) as error:
            self.close()
            raise FeedFault(f"no Modbus device answers: {self._where}: {error}") from None
        if not connected:
            self.close()
            raise FeedFault(f"no Modbus device answers: {self._where}")

    def close(self) -> None:
        """Disconnect; others on the same serial line go on."""
        if self._line is not None:
            line.leave(self._address, self._line)
            self._line = None
        elif not self._address.serial_port:
            self._client.close()

    async def read(self, block: Block) -> list[int]:
        """Registers or bits of a block; raises RefusedError or FeedFault."""
        client, unit = self._client, self._address.unit_id
        start, count, what = block.start, block.count, f"reading {block.name}"
        match block.table:
            case "holding":
                answer = await self._asked(
                    lambda: client.read_holding_registers(start, count=count, device_id=unit), what
                )
            case "input":
                answer = await self._asked(
                    lambda: client.read_input_registers(start, count=count, device_id=unit), what
                )
            case "coil":
                answer = await self._asked(
                    lambda: client.read_coils(start, count=count, device_id=unit), what
                )
            case "discrete":
                answer = await self._asked(
                    lambda: client.read_discrete_inputs(start, count=count, device_id=unit), what
                )
            case _:
                assert_never(block.table)
        values = answer.bits if block.table in {"coil", "discrete"} else answer.registers
        if len(values) < count:
            raise RefusedError(f"reading {block.name} of {self._where} gave {len(values)} values")
        return list(values[:count])

    async def write_registers(self, start: int, registers: Sequence[int]) -> None:
        """Write holding registers; raises RefusedError or FeedFault."""
        client, unit = self._client, self._address.unit_id
        await self._asked(
            lambda: client.write_registers(start, registers, device_id=unit),
            f"writing holding {start}-{start + len(registers) - 1}",
        )

    async def write_coil(self, address: int, *, on: bool) -> None:
        """Write a coil; raises RefusedError or FeedFault."""
        client, unit = self._client, self._address.unit_id
        await self._asked(
            lambda: client.write_coil(address, on, device_id=unit), f"writing coil {address}"
        )

    async def _asked(self, call: Callable[[], Awaitable[ModbusPDU]], what: str) -> ModbusPDU:
        try:
            async with self._turn:
                answer = await call()
        except (ModbusException, OSError) as error:
            raise FeedFault(f"{what} of {self._where}: no answer: {error}") from None
        if answer.isError():
            code = getattr(answer, "exception_code", 0)
            meaning = _MEANINGS.get(code, "")
            raise RefusedError(f"{what} of {self._where} is refused with code {code}: {meaning}")
        return answer


def number_in(registers: Sequence[int], kind: NumberType, word_order: str | None) -> float:
    """The number that registers hold."""
    order: Literal["big", "little"] = "little" if word_order == "little" else "big"
    found = AsyncModbusTcpClient.convert_from_registers(registers, _TYPES[kind], word_order=order)
    assert isinstance(found, (int, float))
    return float(found)


def registers_of(value: float, kind: NumberType, word_order: str | None) -> list[int]:
    """A number as registers; raises FeedFault when it doesn't fit them."""
    order: Literal["big", "little"] = "little" if word_order == "little" else "big"
    try:
        given = value if kind.startswith("float") else round(value)
        return AsyncModbusTcpClient.convert_to_registers(given, _TYPES[kind], word_order=order)
    except Exception as error:  # struct.error among them: no public part of pymodbus
        raise FeedFault(f"{value:g} is no {kind}: {error}") from None
