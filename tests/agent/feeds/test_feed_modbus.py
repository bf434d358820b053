"""Modbus TCP against pymodbus's own server: words, gaps, ranges, writes, silence."""

import asyncio
import struct

import msgspec
import pytest

from muster_agent.base.feed_settings import ModbusSink, ModbusSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.modbus.client import registers_of
from muster_agent.feeds.modbus.tags import ModbusTags
from muster_agent.feeds.modbus.writes import ModbusWrites
from muster_agent.feeds.sources.base import FeedFault
from support.plant_servers import Heard, Plc, running

pytestmark = pytest.mark.system


def words(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def source(plc: Plc, heard: Heard, **tags: object) -> ModbusTags:
    settings = msgspec.convert(
        {"host": "127.0.0.1", "port": plc.port, "every_seconds": 0.05, "tags": tags}
        | {"kind": "modbus"},
        ModbusSource,
    )
    return ModbusTags(settings, heard.inlet.of(settings.tags))


def sink(plc: Plc, **fields: object) -> ModbusWrites:
    given = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "allow_writes": True}
    return ModbusWrites(msgspec.convert(given | fields, ModbusSink))


def answer(risk: float, basis: str = "model", grade: str = "good") -> FeedAnswer:
    return FeedAnswer({"risk": [risk]}, grade, "", basis, "m", "1", 1.0)  # type: ignore[arg-type]  # any word


def test_registers_become_values_by_type_word_order_and_scale():
    async def story():
        heard = Heard()
        async with Plc() as plc:
            await plc.set(0, words(21.5))
            await plc.set(2, words(21.5)[::-1])
            await plc.set(4, [0xFFFE])
            tags = {
                "big": {"register": 0, "type": "float32", "word_order": "big"},
                "little": {"register": 2, "type": "float32", "word_order": "little"},
                "scaled": {"register": 4, "type": "int16", "scale": 0.5, "offset": 10.0},
                "given": {"register": 1, "table": "input", "type": "uint16"},
                "door": {"register": 3, "table": "coil", "type": "bit"},
            }
            async with running(source(plc, heard, **tags)):
                values = {
                    name: (await heard.sample(name)).value
                    for name in ("door", "big", "little", "scaled", "given")
                }
        assert values == {"big": 21.5, "little": 21.5, "scaled": 9.0, "given": 7.0, "door": 0.0}

    asyncio.run(story())


def test_a_wrong_word_order_is_caught_by_the_range():
    async def story():
        heard = Heard()
        async with Plc() as plc:
            await plc.set(0, words(21.5))
            tag = {"register": 0, "type": "float32", "word_order": "little", "least": 5.0}
            async with running(source(plc, heard, flow=tag)):
                sample = await heard.sample("flow")
        assert (sample.grade, sample.reason) == ("bad", "range")

    asyncio.run(story())


def test_a_gap_spoils_only_the_tags_that_lie_in_it():
    async def story():
        heard = Heard()
        async with Plc() as plc:
            await plc.set(9, [3])
            tags = {name: {"register": at} for name, at in (("there", 9), ("gone", 15))}
            made = source(plc, heard, **tags)
            async with running(made):
                there, gone = await heard.sample("there"), await heard.sample("gone")
        assert (there.value, there.grade) == (3.0, "good")
        assert (gone.grade, gone.reason) == ("bad", "source")
        assert "15-15" in made._inlet.words
        assert "only those that its manual lists" in made._inlet.words

    asyncio.run(story())


def test_a_plc_that_goes_ends_the_source_with_its_address():
    async def story():
        heard = Heard()
        async with Plc() as plc:
            made = source(plc, heard, flow={"register": 0})
            task = asyncio.create_task(made.run())
            await heard.sample("flow")
        with pytest.raises(FeedFault, match=f"127.0.0.1:{plc.port}"):
            await asyncio.wait_for(task, 60)
        with pytest.raises(FeedFault, match="no Modbus device answers"):
            await made.run()

    asyncio.run(story())


STOP = {
    "stop": {"register": 2, "type": "bit", "value": "risk", "at_least": 0.8, "safe": 1},
    "risk": {"register": 0, "type": "float32", "word_order": "big", "safe": -1.0},
}


def test_answers_are_written_and_whatever_is_no_answer_writes_the_safe_value():
    async def story():
        async with Plc() as plc:
            made = sink(plc, writes=STOP, heartbeat_register=20, quality_register=21)
            await made.open()
            seen = []
            for said in (
                answer(0.25),
                answer(0.9),
                answer(0.25, "constant", "uncertain"),
                answer(0.25, "no_decision", "bad"),
            ):
                await made.write(said)
                risk = struct.unpack(">f", struct.pack(">HH", *await plc.get(0, 2)))[0]
                seen.append((await plc.coil(2), risk, await plc.get(20, 2)))
            await made.close()
        assert seen[0] == (False, 0.25, [1, 192])
        assert seen[1] == (True, pytest.approx(0.9), [2, 192])
        assert seen[2:] == [(True, -1.0, [3, 64]), (True, -1.0, [4, 0])]

    asyncio.run(story())


def test_nothing_is_written_unless_it_is_allowed():
    async def story():
        async with Plc() as plc:
            made = sink(plc, writes=STOP, allow_writes=False, heartbeat_register=20)
            await made.open()
            await made.write(answer(0.9))
            assert (await plc.coil(2), await plc.get(0, 2), await plc.get(20)) == (
                False, [0, 0], [0],
            )  # fmt: skip

    asyncio.run(story())


def test_a_write_that_the_plc_refuses_says_which():
    async def story():
        async with Plc() as plc:
            made = sink(plc, writes={"risk": {"register": 12, "type": "int16", "safe": 0}})
            await made.open()
            with pytest.raises(FeedFault, match="writing holding 12-12"):
                await made.write(answer(1.0))
            await made.close()
            made = sink(plc, writes={"risk": {"register": 0, "type": "int16", "safe": 0}})
            await made.open()
            with pytest.raises(FeedFault, match="is no int16"):
                await made.write(answer(1e9))
            await made.close()

    asyncio.run(story())


def test_modbus_is_named_when_it_is_missing():
    from muster_agent.feeds.sources.base import require  # noqa: PLC0415 - only here

    with pytest.raises(FeedFault, match=r"pip install 'muster-edge\[modbus\]'"):
        require(("a_module_that_is_not_there", "modbus"))


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_number_that_no_register_holds_is_refused_by_name(kind, value) -> None:
    with pytest.raises(FeedFault, match=f"is no {kind}"):
        registers_of(value, kind, None)
