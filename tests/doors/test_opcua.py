"""OPC UA against asyncua's own server: subscriptions, quality, namespaces by URI, writes."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from asyncua import ua

from muster_agent.base.feed_settings import OpcuaSink, OpcuaSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.opcua.tags import OpcuaTags
from muster_agent.feeds.opcua.writes import OpcuaWrites
from muster_agent.feeds.samples import Alive
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from support.plant_servers import NAMESPACE, Heard, OpcuaPlant, running

pytestmark = [pytest.mark.doors, pytest.mark.timeout(300)]
PLACE = FeedPlace("press-7", "press", "line", "slot", Path())


def node(name: str) -> dict[str, str]:
    return {"node": f"s=Line.{name}", "namespace": NAMESPACE}


def source(plant: OpcuaPlant, heard: Heard, **tags: object) -> OpcuaTags:
    given = {"kind": "opcua", "url": plant.url, "publish_seconds": 0.05, "tags": tags}
    settings = msgspec.convert(given, OpcuaSource)
    return OpcuaTags(settings, heard.inlet.of(settings.tags), PLACE)


def sink(plant: OpcuaPlant, writes: object, *, allow: bool = True, **fields: str) -> OpcuaWrites:
    given = {"kind": "opcua", "url": plant.url, "allow_writes": allow, "writes": writes}
    return OpcuaWrites(msgspec.convert(given | fields, OpcuaSink), PLACE)


def test_changes_arrive_with_their_servers_time_and_quality_and_silence_is_a_sign_of_life():
    async def story():
        heard = Heard()
        async with OpcuaPlant(Flow=1.5, Temp=20.0) as plant:
            made = source(plant, heard, flow=node("Flow"), temp=node("Temp"), gone=node("Gone"))
            async with running(made):
                assert (await heard.sample("flow")).value == 1.5
                await heard.sample("gone", lambda sample: sample.reason == "source")
                assert "BadNodeIdUnknown" in made._inlet.words
                await plant.set("Flow", 2.5)
                await heard.sample("flow", lambda sample: sample.value == 2.5)
                alive = await heard.until(lambda each: isinstance(each, Alive))
                assert set(alive.signals) == {"flow", "temp"}
                await plant.set("Temp", 3.0, ua.StatusCodes.BadSensorFailure)
                bad = await heard.sample("temp", lambda sample: sample.grade == "bad")
                assert bad.reason == "source"
                await plant.set("Temp", 3.0, ua.StatusCodes.UncertainSensorNotAccurate)
                await heard.sample("temp", lambda sample: sample.grade == "uncertain")

    asyncio.run(story())


def test_a_namespace_that_the_server_lacks_is_named_with_those_it_has():
    async def story():
        async with OpcuaPlant(Flow=1.5) as plant:
            tag = {"node": "s=Line.Flow", "namespace": "urn:plant:line-2"}
            with pytest.raises(
                FeedFault, match=f"has no namespace 'urn:plant:line-2'.*{NAMESPACE}"
            ):
                await source(plant, Heard(), flow=tag).run()

    asyncio.run(story())


def test_a_server_that_goes_ends_the_source_and_its_successor_is_found_again():
    async def story():
        heard = Heard()
        async with OpcuaPlant(Flow=1.5) as plant:
            made = source(plant, heard, flow=node("Flow"))
            task = asyncio.create_task(made.run())
            await heard.sample("flow")
        with pytest.raises(FeedFault):
            await asyncio.wait_for(task, 60)
        async with OpcuaPlant(plant.port, Flow=7.5), running(made):
            assert (await heard.sample("flow", lambda sample: sample.value == 7.5)).grade == "good"

    asyncio.run(story())


def test_answers_are_written_as_the_variables_type_and_the_safe_value_on_a_fallback():
    async def story():
        async with OpcuaPlant(Risk=0.0, Stop=False, Count=0, Name="x") as plant:
            writes = {
                "risk": node("Risk") | {"safe": -1.0},
                "stop": node("Stop") | {"at_least": 0.5, "safe": 1},
                "count": node("Count") | {"safe": 9},
            }
            made = sink(plant, writes)
            await made.open()
            seen = []
            for basis in ("model", "constant"):
                await made.write(FeedAnswer({"risk": [0.75]}, "good", "", basis, "m", "1", 1.0))
                seen.append(
                    [await plant.nodes[name].read_value() for name in ("Risk", "Stop", "Count")]
                )
            await made.close()
            assert seen == [[0.75, True, 1], [-1.0, True, 9]]
            refused = sink(plant, {"name": node("Name") | {"safe": 0}})
            await refused.open()
            with pytest.raises(FeedFault, match="the variable is a String"):
                await refused.write(FeedAnswer({"risk": [1.0]}, "good", "", "model", "m", "1", 1.0))
            await refused.close()
            idle = sink(plant, {"risk": node("Risk") | {"safe": 5.0}}, allow=False)
            await idle.open()
            await idle.write(FeedAnswer({}, "bad", "lost", "no_decision", "m", "1", 1.0))
            assert await plant.nodes["Risk"].read_value() == -1.0

    asyncio.run(story())


def test_quality_and_a_heartbeat_go_with_each_answer_and_need_variables_that_hold_numbers():
    async def story():
        async with OpcuaPlant(Risk=0.0, Quality=0, Beat=0, Flag=False) as plant:
            writes = {"risk": node("Risk") | {"safe": -1.0}}
            signs = {"quality_node": "s=Line.Quality", "heartbeat_node": "s=Line.Beat"}
            made = sink(plant, writes, namespace=NAMESPACE, **signs)
            assert made.beats
            await made.open()
            seen = []
            for basis, grade in (("model", "good"), ("constant", "uncertain"), ("model", "bad")):
                await made.write(FeedAnswer({"risk": [0.5]}, grade, "", basis, "m", "1", 1.0))
                seen.append(
                    [await plant.nodes[name].read_value() for name in ("Risk", "Quality", "Beat")]
                )
            await made.close()
            assert seen == [[0.5, 192, 1], [-1.0, 64, 2], [-1.0, 0, 3]]
            refused = sink(plant, writes, namespace=NAMESPACE, quality_node="s=Line.Flag")
            with pytest.raises(FeedFault, match="quality_node: the variable is a Boolean"):
                await refused.open()
            await refused.close()

    asyncio.run(story())
