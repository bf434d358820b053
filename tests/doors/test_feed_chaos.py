"""Lines that are cut, stall or carry garbage, and servers that restart: values come again."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster_agent.base.feed_settings import ModbusSource, MqttSource, OpcuaSource
from muster_agent.feeds.control import Notice
from muster_agent.feeds.ending import end
from muster_agent.feeds.keeping import SourceKeeper
from muster_agent.feeds.samples import Lost, Sample
from muster_agent.feeds.sources.base import FeedPlace
from muster_agent.feeds.sources.registry import source_kind
from support.bad_line import BadLine, Mode
from support.fed import PlantBroker, PlantClient
from support.plant_servers import NAMESPACE, Heard, OpcuaPlant, Plc

MODES: tuple[Mode, ...] = ("cut", "stall", "garbage", "cut", "garbage", "stall")
MODE_SECONDS = 2.0
PLACE = FeedPlace("press-7", "press", "chaos", "slot", Path())

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


async def survive(settings: Any, line: BadLine, change: Callable[[float], Any]) -> None:
    """Go through every mode; after each a value that was set afterwards arrives."""
    heard = Heard()
    inlet = heard.inlet.of(settings.tags)
    said: list[Notice] = []
    source = source_kind(settings).make(settings, inlet, PLACE)
    keeper = SourceKeeper("chaos", source, inlet, said.append, random.Random(1))
    task = asyncio.create_task(keeper.run())
    try:
        for number, mode in enumerate(MODES, 1):
            await line.turn("pass")
            await change(float(number))
            await heard.sample("flow", lambda each, n=number: each.value == float(n))
            await line.turn(mode)
            ends = time.monotonic() + MODE_SECONDS
            while time.monotonic() < ends:
                await change(-1.0)
                await asyncio.sleep(0.1)  # Load while the line is bad.
            heard.inlet.drain()
        assert not task.done()
        assert "source_lost" in {notice.kind for notice in said}
    finally:
        await end([task])
    wrong = [each for each in heard.arrivals if isinstance(each, Sample) and each.grade == "good"]
    assert all(each.value in {-1.0, *map(float, range(1, len(MODES) + 1))} for each in wrong)
    assert not any(isinstance(each, Lost) and each.signals != ("flow",) for each in heard.arrivals)


def test_modbus_comes_back_from_every_bad_line():
    async def story() -> None:
        async with Plc() as plc, BadLine(plc.port) as line:
            tags = {"flow": {"register": 0, "type": "int16"}}
            given = {"kind": "modbus", "host": "127.0.0.1", "port": line.port, "tags": tags}
            settings = msgspec.convert(given | {"every_seconds": 0.05}, ModbusSource)
            await survive(settings, line, lambda value: plc.set(0, [int(value) % (1 << 16)]))

    asyncio.run(story())


def test_opcua_comes_back_from_every_bad_line():
    async def story() -> None:
        async with OpcuaPlant(Flow=0.0) as plant, BadLine(plant.port) as line:
            tags = {"flow": {"node": "s=Line.Flow", "namespace": NAMESPACE}}
            url = f"opc.tcp://127.0.0.1:{line.port}/plant/"
            given = {"kind": "opcua", "url": url, "publish_seconds": 0.05, "tags": tags}
            settings = msgspec.convert(given | {"timeout_seconds": 1.0}, OpcuaSource)
            await survive(settings, line, lambda value: plant.set("Flow", value))

    asyncio.run(story())


def test_mqtt_comes_back_from_every_bad_line(tmp_path):
    async def story(broker: PlantBroker, plant: PlantClient) -> None:
        async with BadLine(broker.port) as line:
            tags = {"flow": {"topic": "plant/flow"}}
            given = {"kind": "mqtt", "host": "127.0.0.1", "port": line.port, "tags": tags}

            async def change(value: float) -> None:
                await asyncio.to_thread(plant.publish, "plant/flow", str(value), retain=True)

            await survive(msgspec.convert(given, MqttSource), line, change)

    with PlantBroker(tmp_path) as broker, PlantClient(broker.port) as plant:
        asyncio.run(story(broker, plant))
