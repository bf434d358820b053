"""Modbus RTU by the same code: pymodbus's serial server on the other end of a line."""

import asyncio
import contextlib
import os
import pty
import struct
import tty
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from muster_agent.base.feed_settings import ModbusSink, ModbusSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.modbus.tags import ModbusTags
from muster_agent.feeds.modbus.writes import ModbusWrites
from muster_agent.feeds.sources.base import FeedFault
from support.plant_servers import Heard, running

pytestmark = pytest.mark.system

LINE = {"baudrate": 115_200, "parity": "none"}
"""A pseudo terminal takes no parity."""


def _carry(source: int, target: int) -> Callable[[], None]:
    def carry() -> None:
        with contextlib.suppress(OSError):  # Nobody has the other end open.
            os.write(target, os.read(source, 4096))

    return carry


@contextlib.asynccontextmanager
async def serial_line() -> AsyncIterator[tuple[str, str]]:
    """The two ends of a serial line: what is written at one is read at the other."""
    loop, files, names = asyncio.get_running_loop(), [], []
    for _ in range(2):
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        files += [ours, theirs]  # Theirs stays open too: a line is there while nobody listens.
        names.append(os.ttyname(theirs))
    here, there = files[0], files[2]
    loop.add_reader(here, _carry(here, there))
    loop.add_reader(there, _carry(there, here))
    try:
        yield names[0], names[1]
    finally:
        loop.remove_reader(here)
        loop.remove_reader(there)
        for file in files:
            os.close(file)


@contextlib.asynccontextmanager
async def plc(port: str) -> AsyncIterator[ModbusSerialServer]:
    """Registers 0-9 and coils 0-15 behind a serial port."""
    registers = [SimData(0, values=[0] * 10, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    device = SimDevice(1, simdata=(bits, bits, registers, registers))
    server = ModbusSerialServer(device, port=port, baudrate=115_200)
    await server.serve_forever(background=True)
    try:
        yield server
    finally:
        await server.shutdown()


def source(port: str, heard: Heard) -> ModbusTags:
    tags = {
        "flow": {"register": 0, "type": "float32", "word_order": "big"},
        "door": {"register": 3, "table": "coil", "type": "bit"},
    }
    given = {"kind": "modbus", "serial_port": port, "every_seconds": 0.02} | LINE
    settings = msgspec.convert(given | {"tags": tags}, ModbusSource)
    return ModbusTags(settings, heard.inlet.of(settings.tags))


def sink(port: str) -> ModbusWrites:
    writes = {"stop": {"type": "bit", "register": 3, "at_least": 0.5, "safe": 1}}
    given = {"kind": "modbus", "serial_port": port, "allow_writes": True} | LINE
    return ModbusWrites(
        msgspec.convert(given | {"writes": writes, "heartbeat_register": 5}, ModbusSink)
    )


def test_a_source_and_a_sink_share_a_serial_line_and_take_turns():
    async def story():
        heard = Heard()
        async with serial_line() as (ours, theirs), plc(theirs) as server:
            first, second = struct.unpack(">HH", struct.pack(">f", 21.5))
            await server.async_setValues(1, 16, 0, [first, second])
            written = sink(ours)
            async with running(source(ours, heard)):
                assert (await heard.sample("flow")).value == 21.5
                await written.open()
                for risk in (0.9, 0.8, 0.7):
                    await written.write(FeedAnswer({"r": [risk]}, "good", "", "model", "m", "1", 1))
                assert (await heard.sample("door", lambda each: each.value == 1)).grade == "good"
                assert list(await server.async_getValues(1, 3, 5, 1)) == [3]
                await written.close()
                heard.inlet.drain()
                assert (await heard.sample("flow")).value == 21.5  # The source goes on.

    asyncio.run(story())


def test_a_line_on_which_nobody_answers_and_a_port_that_is_not_there_are_named():
    async def story():
        async with serial_line() as (ours, _):
            made = source(ours, Heard())
            with pytest.raises(FeedFault, match=f"unit 1 at {ours}: no answer"):
                await made.run()
            even = msgspec.structs.replace(made._settings, parity="even")
            with pytest.raises(FeedFault, match=f"unit 1 at {ours}: .*Invalid argument"):
                await ModbusTags(even, Heard().inlet.of(even.tags)).run()
        with pytest.raises(FeedFault, match="no Modbus device answers: unit 1 at /dev/nothing"):
            await source("/dev/nothing", Heard()).run()

    asyncio.run(story())
