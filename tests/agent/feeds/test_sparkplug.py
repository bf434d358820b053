"""Sparkplug B: the payload's bytes, sessions of an edge node, and a host's view of one."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.base.feed_settings import SparkplugSink, SparkplugSource
from muster_agent.feeds.answers import FeedAnswer
from muster_agent.feeds.inlet import SourceInlet
from muster_agent.feeds.samples import Lost
from muster_agent.feeds.sources.base import FeedFault, FeedPlace
from muster_agent.feeds.sparkplug.answers import SparkplugAnswers
from muster_agent.feeds.sparkplug.codec import (
    DataType,
    Metric,
    Payload,
    PayloadError,
    decode,
    encode,
)
from muster_agent.feeds.sparkplug.host import NodeView
from muster_agent.feeds.sparkplug.node import REBIRTH, EdgeNode, asks_for_birth
from muster_agent.feeds.sparkplug.tags import SparkplugTags
from support.fed import PlantBroker
from support.plant_servers import Heard, running


def answer(risk: float, at: float = 1000.0, **fields: object) -> FeedAnswer:
    given = {
        "outputs": {"risk": [risk]}, "grade": "good", "reason": "", "basis": "model",
        "model": "m", "version": "1", "at": at,
    }  # fmt: skip
    return FeedAnswer(**given | fields)  # type: ignore[arg-type]  # by keywords


def whole(kind: DataType, bits: int, *, sign: bool) -> st.SearchStrategy[Metric]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if sign else (0, (1 << bits) - 1)
    return st.builds(lambda n: Metric("m", 1, 2, kind, n, quality=192), st.integers(low, high))


METRICS = st.one_of(
    *(
        whole(DataType(number), bits, sign=number < 5)
        for number, bits in zip(range(1, 9), (8, 16, 32, 64) * 2, strict=True)
    ),
    st.builds(lambda x: Metric("m", None, None, DataType.DOUBLE, x), st.floats(allow_nan=False)),
    st.builds(
        lambda x: Metric(None, 9, 7, DataType.FLOAT, x, historical=True),
        st.floats(width=32, allow_nan=False),
    ),
    st.builds(lambda x: Metric("b", 3, 1, DataType.BOOLEAN, x), st.booleans()),
    st.builds(lambda x: Metric("t", 3, 1, DataType.STRING, x), st.text()),
    st.just(Metric("n", 4, 1, DataType.DOUBLE, None, quality=0)),
)


@given(st.lists(METRICS, max_size=5), st.none() | st.integers(0, 255))
def test_a_payload_is_read_as_it_was_written(metrics, seq):
    payload = Payload(1_800_000_000_000, tuple(metrics), seq)
    assert decode(encode(payload)) == payload


@given(st.binary(max_size=60))
def test_any_bytes_are_a_payload_or_refused(data):
    try:
        decode(data)
    except PayloadError:
        return


def test_the_bytes_are_those_of_the_published_message_definition():
    metric = Metric("a", 1, 2, DataType.INT32, -1, quality=192)
    quality = "0a07" + b"Quality".hex() + "1205" + "0803" + "18c001"
    written = "0a0161" + "1001" + "1802" + "2003" + "4a10" + quality + "50ffffffff0f"
    assert encode(Payload(5, (metric,), 0)).hex() == "0805" + "1221" + written + "1800"


def births(node: EdgeNode, at: int = 1) -> dict[str | None, Metric]:
    return {metric.name: metric for metric in node.birth(at).metrics}


def test_a_birth_names_everything_and_data_carry_the_alias_alone():
    node = EdgeNode()
    node.death(1)
    node.remember(answer(0.5))
    born = births(node)
    assert born[REBIRTH].value is False
    assert (born["outputs/risk"].value, born["outputs/risk"].quality) == (0.5, 192)
    data = node.data([answer(0.75, grade="bad")])
    assert data.seq == 1
    assert {metric.name for metric in data.metrics} == {None}
    (risk,) = [m for m in data.metrics if m.alias == born["outputs/risk"].alias]
    assert (risk.value, risk.quality, risk.milliseconds) == (0.75, 0, 1_000_000)


def test_death_has_the_births_number_and_no_sequence_and_the_sequence_wraps():
    node = EdgeNode()
    for session in range(258):
        death = node.death(1)
        assert death.seq is None
        assert [metric.name for metric in death.metrics] == ["bdSeq"]
        assert death.metrics[0].value == births(node)["bdSeq"].value == session % 256
    node.remember(answer(0.5))
    node.birth(1)
    assert [node.data([answer(0.5)]).seq for _ in range(257)][-3:] == [255, 0, 1]
    assert node.birth(1).seq == 0


def test_a_new_output_needs_a_birth_and_what_is_not_known_is_null():
    node = EdgeNode()
    node.death(1)
    node.birth(1)
    assert node.needs_birth(answer(0.5))
    node.remember(answer(0.5))
    node.birth(1)
    assert not node.needs_birth(answer(0.6))
    assert not node.needs_birth(answer(0.6, outputs={}))
    node.remember(answer(0.6, outputs={}, grade="bad"))
    assert births(node)["outputs/risk"].value is None


def test_a_host_follows_aliases_deaths_and_gaps():
    node, view = EdgeNode(), NodeView()
    assert view.take("NDATA", "", Payload(1, (), 7)).rebirth
    death = node.death(1)
    node.remember(answer(0.5))
    born = view.take("NBIRTH", "", node.birth(2))
    values = {heard.name: heard for heard in born.values}
    assert values["outputs/risk"].value == 0.5
    news = view.take("NDATA", "", node.data([answer(0.75, at=2.5)]))
    (risk,) = [heard for heard in news.values if heard.name == "outputs/risk"]
    assert (risk.value, risk.seconds, risk.grade) == (0.75, 2.5, "good")
    old = view.take("NDATA", "", node.data([answer(0.1)], historical=True))
    assert (old.values, old.historical) == ((), len(node.data([answer(0.1)]).metrics))
    assert view.take("NDATA", "", node.data([answer(0.8)])).rebirth
    stale = EdgeNode()
    stale.death(1)
    assert view.take("NDEATH", "", stale.death(1)).dead is None
    assert view.take("NDEATH", "", death).dead == ""
    assert view.take("NDATA", "", node.data([answer(0.8)])).rebirth


def test_devices_behind_a_node_are_born_and_die_by_themselves():
    view = NodeView()
    view.take("NBIRTH", "", Payload(1, (Metric("bdSeq", None, 1, DataType.INT64, 0),), 0))
    flow = Metric("Flow", 5, 9, DataType.INT16, -3)
    born = view.take("DBIRTH", "pump", Payload(1, (flow,), 1))
    assert [(each.device, each.value) for each in born.values] == [("pump", -3)]
    untyped = decode(encode(Payload(1, (Metric(None, 5, 9, None, -4),), 2)))
    assert view.take("DDATA", "pump", untyped).values[0].value == -4
    assert view.take("DDATA", "press", Payload(1, (), 3)).rebirth
    assert view.take("DDEATH", "pump", Payload(1, (), 4)).dead == "pump"
    assert view.take("NCMD", "", Payload(1, (), None)).values == ()


def sink(broker: PlantBroker, folder: Path) -> SparkplugAnswers:
    given = {"kind": "sparkplug", "host": "127.0.0.1", "port": broker.port, "group": "plant"}
    settings = msgspec.convert(given | {"edge_node": "node"}, SparkplugSink)
    return SparkplugAnswers(settings, FeedPlace("dev", "press", "out", "slot", folder))


def source(broker: PlantBroker, heard: Heard, folder: Path) -> tuple[SparkplugTags, SourceInlet]:
    tags = {"risk": {"metric": "outputs/risk"}, "confidence": {"metric": "confidence"}}
    given = {"kind": "sparkplug", "host": "127.0.0.1", "port": broker.port, "group": "plant"}
    settings = msgspec.convert(given | {"edge_node": "node", "tags": tags}, SparkplugSource)
    inlet = heard.inlet.of(settings.tags)
    return SparkplugTags(settings, inlet, FeedPlace("dev", "other", "in", "slot", folder)), inlet


@pytest.mark.system
def test_a_feed_reads_what_another_publishes_through_birth_rebirth_backlog_and_death(tmp_path):
    async def story():
        heard = Heard()
        with PlantBroker(tmp_path) as broker:
            node = sink(broker, tmp_path)
            await node.open()
            await node.write(answer(0.25, at=time.time()))
            made, inlet = source(broker, heard, tmp_path)
            async with running(made):
                # It came late: it asks for a birth, and hears what stood in it.
                assert (await heard.sample("risk")).value == 0.25
                assert (await heard.sample("confidence")).reason == "source"
                node.miss(answer(0.5, at=10.0))
                node.miss(answer(0.6, at=11.0))
                await node.write(answer(0.75, at=time.time()))
                sample = await heard.sample("risk", lambda each: each.value != 0.25)
                assert (sample.value, sample.grade) == (0.75, "good")
                assert not node._backlog.oldest(1)
                await node.close()
                await heard.until(lambda each: isinstance(each, Lost))
            assert inlet.heard
        with pytest.raises(FeedFault):
            await node.write(answer(0.1))

    asyncio.run(story())


def test_a_command_that_is_no_rebirth_is_none():
    rebirth = Payload(1, (Metric(REBIRTH, None, 1, DataType.BOOLEAN, True),))
    assert asks_for_birth(encode(rebirth))
    assert not asks_for_birth(
        encode(Payload(1, (Metric(REBIRTH, kind=DataType.BOOLEAN, value=False),)))
    )
    assert not asks_for_birth(b"\xff")
