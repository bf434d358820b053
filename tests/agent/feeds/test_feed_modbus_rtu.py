"""Modbus RTU by the same code: pymodbus's serial server on the other end of a line."""

import asyncio
import struct

import msgspec
import pytest

from muster_agent.base.feed_settings import ModbusSink, ModbusSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.modbus.tags import ModbusTags
from muster_agent.feeds.modbus.writes import ModbusWrites
from muster_agent.feeds.sources.base import FeedFault
from support.plant_servers import Heard, running
from support.serial_line import plc, serial_line

pytestmark = pytest.mark.system

LINE = {"baudrate": 115_200, "parity": "none"}
"""A pseudo terminal takes no parity."""


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
