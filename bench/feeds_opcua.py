"""OPC UA as a source: values a second beside asyncua's bare client, and what is lost at 1 s a tag.

The server is asyncua's, in a process of its own, and writes all its variables round after round,
each with the number of the round.
"""

import asyncio
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # its plant

import msgspec
from asyncua import Client

from muster_agent.base.feed_settings import OpcuaSource
from muster_agent.feeds.ending import end
from muster_agent.feeds.opcua.tags import OpcuaTags
from muster_agent.feeds.samples import Sample
from muster_agent.feeds.sources.base import FeedPlace
from support.plant_servers import NAMESPACE, Heard, OpcuaPlant
from support.ports import free_port

TAGS = 1_000
PUBLISH_SECONDS = 0.1
CONNECTED_SECONDS_MAX = 60.0
PLACE = FeedPlace("press-7", "press", "line", "slot", Path())


async def _serve(port: int, period_seconds: float) -> None:
    """Write all variables every so often; 0: as fast as the server can."""
    async with OpcuaPlant(port, **{f"t{n}": 0.0 for n in range(TAGS)}) as plant:
        number, begun = 0, time.monotonic()
        while True:
            number += 1
            for name in plant.nodes:
                await plant.set(name, float(number))
            due = begun + number * period_seconds
            await asyncio.sleep(max(due - time.monotonic(), 0.0))  # the server's own turn


def _server(port: int, period_seconds: float) -> None:
    asyncio.run(_serve(port, period_seconds))


@contextlib.contextmanager
def _served(period_seconds: float) -> Iterator[int]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(
        target=_server, args=(port, period_seconds), daemon=True
    )
    process.start()
    try:
        yield port
    finally:
        process.terminate()
        process.join(30)


def _source(port: int, heard: Heard) -> OpcuaTags:
    tags = {f"t{n}": {"node": f"s=Line.t{n}", "namespace": NAMESPACE} for n in range(TAGS)}
    url = f"opc.tcp://127.0.0.1:{port}/plant/"
    given = {"kind": "opcua", "url": url, "publish_seconds": PUBLISH_SECONDS, "tags": tags}
    settings = msgspec.convert(given, OpcuaSource)
    return OpcuaTags(settings, heard.inlet.of(settings.tags), PLACE)


class _Counted:
    """A handler that does nothing but count."""

    def __init__(self) -> None:
        self.values = 0

    def datachange_notification(self, _node: Any, _value: Any, _data: Any) -> None:
        self.values += 1


async def _bare(port: int, seconds: float) -> tuple[float, float]:
    """asyncua's client alone: values a second, and how much of a core that took."""
    counted = _Counted()
    async with Client(f"opc.tcp://127.0.0.1:{port}/plant/") as client:
        index = await client.get_namespace_index(NAMESPACE)
        nodes = [client.get_node(f"ns={index};s=Line.t{n}") for n in range(TAGS)]
        subscription = await client.create_subscription(PUBLISH_SECONDS * 1000, counted)
        await subscription.subscribe_data_change(nodes, sampling_interval=PUBLISH_SECONDS * 1000)
        before, begun, spent = counted.values, time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)  # values come
        took = time.monotonic() - begun
        return (counted.values - before) / took, (time.process_time() - spent) / took


async def _fed(port: int, seconds: float) -> tuple[float, float, int]:
    """The feed's source: values a second, its share of a core, and rounds missed by a tag."""
    heard = Heard()
    task = asyncio.create_task(_source(port, heard).run())
    latest: dict[str, float] = {}
    begun = time.monotonic()
    while len(latest) < TAGS and time.monotonic() - begun < CONNECTED_SECONDS_MAX:
        latest |= {each.signal: each.value for each in _samples(heard)}
        await asyncio.sleep(PUBLISH_SECONDS / 4)  # it subscribes
    values = missed = 0
    begun, spent = time.monotonic(), time.process_time()
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(PUBLISH_SECONDS / 4)  # samples gather
        for each in _samples(heard):
            values += 1
            missed += max(round(each.value - latest.get(each.signal, each.value)) - 1, 0)
            latest[each.signal] = each.value
    took, used = time.monotonic() - begun, time.process_time() - spent
    await end([task])
    assert len(latest) == TAGS, "not all variables were subscribed in time"
    return values / took, used / took, missed


def _samples(heard: Heard) -> Iterator[Any]:
    for each in heard.inlet.drain():
        if isinstance(each, Sample) and each.value is not None:
            yield each


def measure(seconds: float, steady_seconds: float) -> dict[str, Any]:
    """As fast as the server goes, by both clients in turn; then each tag once a second."""
    with _served(0.0) as port:
        time.sleep(3.0)  # the server starts
        fed = asyncio.run(_fed(port, seconds))
        bare = asyncio.run(_bare(port, seconds))
    with _served(1.0) as port:
        time.sleep(3.0)  # the server starts
        steady = asyncio.run(_fed(port, steady_seconds))
    return {
        "tags": TAGS,
        "values_per_second": fed[0],
        "core_share": fed[1],
        "values_per_core_second": fed[0] / fed[1],
        "bare_client_values_per_second": bare[0],
        "bare_client_core_share": bare[1],
        "steady_seconds": steady_seconds,
        "steady_values_per_second": steady[0],
        "steady_core_share": steady[1],
        "steady_values_missed": steady[2],
    }
